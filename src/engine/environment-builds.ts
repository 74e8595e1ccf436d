/**
 * Environments as layers: finds the layer of an environment on a host or has it built there, once for all who ask, and keeps
 * what was really installed (`environment.lock`), so that the next host installs the same.
 *
 * - S2: a build has a way out of its own, to package registries alone, whatever its sessions may reach later.
 * - S1: secrets of setup commands are placeholders; the gateway puts them in, towards the hosts they are bound to.
 */
import { randomBytes } from 'node:crypto';
import type { Gateway } from '../gateway/gateway.ts';
import { type BoundCredential, defaultCaps, type NetworkRule } from '../gateway/policy.ts';
import type { EnvironmentBuild, EnvironmentLayer } from '../protocol/environment-builds.ts';
import { defaultConfig, type EnvironmentConfig, type Networking } from '../protocol/environments.ts';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Executor, Limits } from '../sandbox/executor.ts';
import {
  type BuildFailure,
  type BuildNetwork,
  type Built,
  buildLayer,
  secretKey,
} from '../sandbox/image/build.ts';
import type { Layers, Lock } from '../sandbox/image/layers.ts';
import { buildRules, type Recipe, type Registries, recipeKey, recipeOf } from '../sandbox/image/recipe.ts';
import type { Store, Tenant } from '../store/store.ts';

export type BuildSecrets = {
  env: Record<string, string>;
  credentials: BoundCredential[];
  unreachable: { message: string; credential_id: string }[];
};

export type SecretsRequest = { session: string; vaultIds: string[]; networking: Networking };

export type EnvironmentParts = {
  store: Store;
  executor: Executor & Layers;
  /** The gateway on the machine of that host; null where there is none. */
  gatewayAt(host: string | null): Gateway | null;
  limits: Limits;
  /** Of one vault, for a session of this name and these networks; the secrets go to the gateway alone. */
  secretsOf(tenant: Tenant, request: SecretsRequest): Promise<BuildSecrets>;
  registries: Registries;
  nowMs(): number;
  onError(error: unknown, about: string): void;
};

type ShownState = Omit<EnvironmentBuild, 'type' | 'environment_id' | 'version'>;

const nothingKnown = {
  ...{ digest: null, size_bytes: null, duration_ms: null, packages: null, notes: [], error: null },
};

const ticketIdleMs = 20 * 60_000;
const ticketLifeMs = 4 * 60 * 60_000;
const observeMs = 1_500;
const rowKind = 'environment_build';

export class EnvironmentBuilds {
  readonly #parts: EnvironmentParts;
  readonly #running = new Map<string, Promise<Built | BuildFailure>>();

  constructor(parts: EnvironmentParts) {
    this.#parts = parts;
  }

  /** Where it is there already: that, without asking anybody to build. */
  async find(recipe: Recipe, host: string | null): Promise<{ host: string; digest: string | null }> {
    const found = await this.#parts.executor.findLayer({ recipe: recipeKey(recipe), host });
    return { host: found.host, digest: found.layer?.digest ?? null };
  }

  /** Single-flight in this process; between processes the host sees to it (build.ts). */
  build(tenant: Tenant, recipe: Recipe, host: string | null): Promise<Built | BuildFailure> {
    const key = flightKey(tenant, recipe, host ?? '');
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    const build = this.#build(tenant, recipe, host).finally(() => this.#running.delete(key));
    this.#running.set(key, build);
    return build;
  }

  /** For people who do not want their first session to wait; endings are in `state`. */
  async begin(tenant: Tenant, config: EnvironmentConfig): Promise<void> {
    const recipe = recipeOf(config, process.arch);
    if (recipe === null || (await this.state(tenant, config)).status === 'building') return;
    const { host } = await this.find(recipe, null);
    void this.build(tenant, recipe, host).catch((error: unknown) =>
      this.#parts.onError(error, 'environment build'),
    );
  }

  async state(tenant: Tenant, config: EnvironmentConfig): Promise<ShownState> {
    const recipe = recipeOf(config, process.arch);
    if (recipe === null) return { ...nothingKnown, status: 'nothing_to_build' };
    const key = flightKey(tenant, recipe, '');
    if ([...this.#running.keys()].some((one) => one.startsWith(key)))
      return { ...nothingKnown, status: 'building' };
    const row = await this.#row(tenant, recipe);
    if (!row) return { ...nothingKnown, status: 'not_built' };
    const { lock, ...body } = row.body;
    const packages = (lock as unknown as Lock | null)?.packages ?? null;
    return { ...nothingKnown, ...(body as unknown as ShownState), packages };
  }

  async layers(): Promise<EnvironmentLayer[]> {
    const all = await this.#parts.executor.listLayers();
    return all.map(({ digest, host, sizeBytes, files, builtAtMs, sessions }) => ({
      ...{ type: 'environment_layer' as const, digest, host, size_bytes: sizeBytes, files, sessions },
      built_at: new Date(builtAtMs).toISOString(),
    }));
  }

  async clean(olderThanMs: number): Promise<string[]> {
    return (await this.#parts.executor.removeUnusedLayers({ olderThanMs })).removed;
  }

  async #build(tenant: Tenant, recipe: Recipe, host: string | null): Promise<Built | BuildFailure> {
    const { executor, limits, registries, nowMs } = this.#parts;
    const before = await this.#row(tenant, recipe);
    const lock = (before?.body.lock ?? null) as Lock | null;
    const network = this.#network(tenant, recipe);
    const ended = await buildLayer({ executor, limits, registries, nowMs, network }, { recipe, host, lock });
    await this.#remember(tenant, recipe, ended);
    return ended;
  }

  #row(tenant: Tenant, recipe: Recipe) {
    return this.#parts.store.resource(tenant, rowKind, rowId(recipe));
  }

  /** An observation: what cannot be written down does not undo a build. */
  async #remember(tenant: Tenant, recipe: Recipe, ended: Built | BuildFailure): Promise<void> {
    const { store, nowMs } = this.#parts;
    if (!('failed' in ended) && ended.reused) return;
    const before = await this.#row(tenant, recipe);
    // The first lock is the one that all later builds keep to.
    const known = (before?.body.lock ?? null) as JsonObject | null;
    const time = new Date(nowMs()).toISOString();
    const body =
      'failed' in ended
        ? { status: 'failed', error: shownFailure(ended), lock: known }
        : { status: 'ready', ...shownBuild(ended), lock: known ?? ended.lock };
    const row = {
      ...{ kind: rowKind, id: rowId(recipe), version: (before?.version ?? 0) + 1 },
      ...{ body: body as unknown as JsonObject, createdAt: before?.createdAt ?? time, updatedAt: time },
      ...{ archivedAt: null, uniqueName: null },
    };
    const facts = {
      recipe: recipeKey(recipe),
      status: body.status,
      digest: 'digest' in body ? body.digest : null,
    };
    const event = {
      ...{ id: newId('event'), type: 'environment.built', actor: 'engine' },
      ...{ thread: null, turn: null, call: null, causation: null },
      ...{ audience: 'operator' as const, public: facts, private: null },
    };
    const append = { ...tenant, stream: tenant.organization, events: [event], resources: [row] };
    await store.append(append).catch((error: unknown) => this.#parts.onError(error, 'environment build'));
  }

  #network(tenant: Tenant, recipe: Recipe): BuildNetwork {
    const { registries, gatewayAt, secretsOf } = this.#parts;
    const rules = buildRules(recipe, registries);
    return {
      async open({ session, fence, host }) {
        if (rules === null) return { network: { kind: 'none' }, secrets: {} };
        const gateway = gatewayAt(host);
        if (!gateway)
          return {
            problem:
              'packages and setup commands need the network, and there is no gateway beside the host. See `scriptorium doctor`.',
          };
        const found = await buildSecrets(recipe, rules, (vaultIds, networking) =>
          secretsOf(tenant, { session, vaultIds, networking }),
        );
        if ('problem' in found) return found;
        const { secrets, credentials } = found;
        const ticket = randomBytes(32).toString('base64url');
        const policy = { rules, otherwise: 'deny' as const, caps: defaultCaps };
        const opened = await gateway.openSession({
          ...{ session, fence, policy, credentials, ticket, ticketIdleMs, ticketLifeMs },
        });
        if ('refused' in opened) return { problem: `the gateway refused: ${opened.message}` };
        return { network: { kind: 'gateway', ticket, authorityPem: opened.authorityPem }, secrets };
      },
      async denied({ session, host }) {
        const seen = (await gatewayAt(host)?.observe({ session, acknowledge: 0, waitMs: observeMs })) ?? [];
        if ('refused' in seen) return [];
        const hosts = seen
          .filter(({ decision }) => decision.decision === 'denied')
          .map(({ decision }) => decision.host);
        return [...new Set(hosts)];
      },
      async close({ session, fence, host }) {
        if (rules !== null) await gatewayAt(host)?.closeSession({ session, fence });
      },
    };
  }
}

function flightKey({ organization, project }: Tenant, recipe: Recipe, host: string): string {
  return `${organization} ${project} ${recipeKey(recipe)} ${host}`;
}

function rowId(recipe: Recipe): string {
  return `envbuild_${recipeKey(recipe).slice(0, 40)}`;
}

/** As events and the API show it. */
export function shownFailure({ step, command, exitCode, output, message }: BuildFailure) {
  return { step, command, exit_code: exitCode, output, message };
}

/** Without the lock. */
export function shownBuild({ layer, lock, reused, durationMs, notes }: Built) {
  return {
    digest: layer.digest,
    size_bytes: layer.sizeBytes,
    files: layer.files,
    packages: lock.packages.length,
    reused,
    duration_ms: durationMs,
    notes,
  };
}

/**
 * Placeholders for the commands that name them, and what the gateway puts in their place. A build may reach registries alone,
 * so a secret that is bound to no registry is of no use, and is refused before anything runs (S4).
 */
async function buildSecrets(
  recipe: Recipe,
  rules: NetworkRule[],
  secretsIn: (vaultIds: string[], networking: Networking) => Promise<BuildSecrets>,
): Promise<{ secrets: Record<string, string>; credentials: BoundCredential[] } | { problem: string }> {
  const named = recipe.setup.flatMap(({ secrets = [] }) => secrets);
  const networking = { ...defaultConfig.networking, rules: rules.map(({ id: _, ...rule }) => rule) };
  const secrets: Record<string, string> = {};
  const credentials = new Map<string, BoundCredential>();
  for (const one of named) {
    const found = await secretsIn([one.vault_id], networking);
    const placeholder = found.env[one.name];
    if (placeholder === undefined)
      return { problem: `setup: vault ${one.vault_id} has no variable ${one.name}` };
    const bound = found.credentials.find((credential) => credential.placeholder === placeholder);
    const why = found.unreachable.find(({ message }) => message.startsWith(`${one.name}: `))?.message;
    if (!bound) return { problem: `setup: ${why ?? `${one.name} is bound to no host`}` };
    secrets[secretKey(one)] = placeholder;
    credentials.set(bound.id, bound);
  }
  return { secrets, credentials: [...credentials.values()] };
}
