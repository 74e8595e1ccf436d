/**
 * What every role is built of: store, engine, api, each once a process. The files of this folder and `main.ts` are the
 * composition root; they alone know everything.
 */
import path from 'node:path';
import { createApi } from '../api/app.ts';
import type { ApiDeps } from '../api/deps.ts';
import { assembleEngine } from '../engine/assemble.ts';
import { storeChecks } from '../engine/checks.ts';
import { EnvironmentBuilds } from '../engine/environment-builds.ts';
import { Errands } from '../engine/errands.ts';
import { FoldedSessions } from '../engine/folded-sessions.ts';
import type { HostLosses } from '../engine/host-losses.ts';
import { type NetworkParts, SessionNetworks, ticketIdleMs, ticketLifeMs } from '../engine/network.ts';
import { pinSession } from '../engine/pin-session.ts';
import type { LocalPreviews } from '../engine/preview-bus.ts';
import { Workspaces } from '../engine/workspace.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { decide } from '../guard/guard.ts';
import { networkPolicy, reachesNobody } from '../guard/network-policy.ts';
import { mintTask, revokeTask } from '../guard/task-identity.ts';
import { openServerVault } from '../guard/vault/open.ts';
import { resolveForSession } from '../guard/vault/session-credentials.ts';
import type { ModelConfig } from '../model/catalogue.ts';
import { warmUp } from '../model/openai-responses/index.ts';
import { builtInPrices, loadPriceList } from '../model/prices.ts';
import { defaultConfig, type EnvironmentConfig } from '../protocol/environments.ts';
import { clockMs, failpoints } from '../protocol/failpoint.ts';
import type { JsonObject } from '../protocol/json.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import type { Limits } from '../sandbox/executor.ts';
import type { Fleet } from '../sandbox/fleet/fleet.ts';
import type { Registries } from '../sandbox/image/recipe.ts';
import type { SessionConfig } from '../session/state.ts';
import { openBlobs, openStore } from '../store/open.ts';
import type { Blobs, Store } from '../store/store.ts';
import { buildLimits, type LimitPolicy, limitPolicy } from './limit-policy.ts';
import { version } from './version.ts';

/** The machine's, unless a failpoint moves it. */
export const now = failpoints.on ? clockMs : Date.now;

/** What every role may be told. */
export type CommonOptions = {
  dataDir: string;
  model: ModelConfig;
  /** A JSON file of prices that come before ours. */
  pricesFile?: string;
  limits?: Partial<Limits>;
  /** JSON of the operator's defaults and maxima (limit-policy.ts). */
  limitsFile?: string;
  /** Where builds of environments ask for packages, by manager: URLs instead of the usual registries. */
  registries?: Registries;
  /** Of a fleet; else the store's own in the data directory. */
  masterKeyFile?: string;
  onError?(error: unknown, about: string): void;
};

const warmUpMs = 250;

/** What every role has. */
export type Base = {
  store: Store;
  folded: FoldedSessions;
  blobs: Blobs;
  vault: ReturnType<typeof openServerVault>;
  policy: LimitPolicy;
  onError(error: unknown, about: string): void;
};

/** `isOneMachine`: sessions run on this one. Throws `BadLimits`. */
export function baseOf(store: Store, dataDir: string, options: CommonOptions, isOneMachine = false): Base {
  return {
    store,
    vault: openServerVault({ ...options, store, dataDir, nowMs: now }),
    folded: new FoldedSessions(store),
    policy: limitPolicy(options, isOneMachine),
    blobs: openBlobs(dataDir),
    onError: options.onError ?? ((error, about) => console.error(`scriptorium: ${about}:`, error)),
  };
}

type BrainOptions = Pick<CommonOptions, 'model' | 'pricesFile' | 'limits' | 'registries'> & {
  fleet: Fleet;
  previews: LocalPreviews;
  losses?: HostLosses;
  about?: () => JsonObject;
  /** The gateway on the machine of a host. */
  gatewayAt(host: string | null): Gateway | null;
  hosts?: NetworkParts['hosts'];
};

/** The engine, and what else works with the hands. */
export function brainOf(base: Base, options: BrainOptions) {
  const { store, folded, blobs, onError } = base;
  const { fleet, previews, losses, about } = options;
  const { limits, maxima } = base.policy;
  const networks = networksOf(base, options);
  const environments = new EnvironmentBuilds({
    ...{
      store,
      executor: fleet,
      gatewayAt: options.gatewayAt,
      limits: buildLimits(limits),
      nowMs: now,
      onError,
    },
    registries: options.registries ?? {},
    secretsOf: (tenant, request) => resolveForSession(base.vault, { ...request, tenant }),
  });
  const engine = assembleEngine({
    ...{ store, folded, blobs, executor: fleet, decide, limits, maxima, nowMs: now },
    model: options.model,
    prices: options.pricesFile === undefined ? builtInPrices : loadPriceList(options.pricesFile),
    ...{ networks, environments },
    ...(losses ? { losses } : {}),
    ...(about ? { about } : {}),
    onPreview: (session, frame) => previews.publish(session, frame),
    onError: (error, stream) => onError(error, stream ?? 'engine'),
  });
  return {
    ...{ engine, networks, environments },
    workspaces: new Workspaces({
      store,
      folded,
      blobs,
      executor: fleet,
      limits,
      maxima,
      networks,
      tenant: defaultTenant,
    }),
    errands: new Errands({
      ...{ store, executor: fleet, onError: (error: unknown) => onError(error, 'errands') },
      ...(losses ? { losses } : {}),
    }),
  };
}

function networksOf(
  { store, vault, onError }: Base,
  { gatewayAt, hosts }: Pick<BrainOptions, 'gatewayAt' | 'hosts'>,
): SessionNetworks {
  return new SessionNetworks({
    store,
    gatewayAt,
    ...(hosts ? { hosts } : {}),
    policyOf: ({ config, networkAnswers }) => {
      const policy = config && networkPolicy(networkingOf(config).networking, networkAnswers, []);
      return policy && !reachesNobody(policy) ? policy : null;
    },
    secretsOf: ({ stream: session, organization, project }, config) => {
      const tenant = { organization, project };
      const { networking } = networkingOf(config);
      return resolveForSession(vault, { session, tenant, vaultIds: config.vaultIds ?? [], networking });
    },
    mintTicket: async ({ stream: session, organization, project }, config, policyHash) => {
      const agent = { id: String(config.agent.id), version: Number(config.agent.version) };
      const repository = config.repository?.head ?? null;
      const life = { idleMs: ticketIdleMs, expiresAtMs: now() + ticketLifeMs };
      const claims = { session, agent, repository, policyHash, ...life };
      return (await mintTask(vault, { tenant: { organization, project }, claims, actor: 'engine' })).token;
    },
    revokeTicket: ({ stream: session, organization, project }) =>
      revokeTask(vault, { organization, project }, { session, actor: 'engine' }),
    onError: (error, session) => onError(error, session),
  });
}

/** As the session pinned it; sessions of before there were networks have none. */
function networkingOf({ environment }: SessionConfig): Pick<EnvironmentConfig, 'networking'> {
  return (environment as { config?: EnvironmentConfig }).config ?? defaultConfig;
}

type ApiOptions = Pick<
  ApiDeps,
  'previews' | 'sandbox' | 'isolation' | 'ready' | 'doctor' | 'fleet' | 'environments'
> & {
  closing: AbortController;
};

export function apiOf(
  { store, folded, blobs, vault, policy, onError }: Base,
  { closing, ...deps }: ApiOptions,
) {
  return createApi({
    ...{ store, folded, blobs, vault, now, version, pinSession, ...deps },
    checks: storeChecks(store),
    limitMaxima: policy.maxima,
    closing: closing.signal,
    onBug: (error, requestId) => onError(error, requestId),
  });
}

/** The SDK takes a tenth of a second to load: not at start, and not in the first message's way either. */
export function warmUpLater(model: ModelConfig): void {
  if (model.apiKey !== null) setTimeout(() => void warmUp().catch(() => undefined), warmUpMs).unref();
}

export const summarizeModule = new URL(`../session/summary${path.extname(import.meta.url)}`, import.meta.url);

export function openStoreOf(dataDir: string): Promise<Store> {
  return openStore({ directory: path.join(dataDir, 'store'), summarizeModule, now });
}
