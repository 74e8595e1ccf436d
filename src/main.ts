/**
 * The composition root: builds every part once, starts and stops them in order. The only file that knows everything.
 *
 * `startServer` is api and engine in this process, over an embedded store, with a host in a process of its own that it
 * finds running or starts. `startRole` is one process of many on a shared store: api, engine or both; `startHostRole` is a
 * machine that lends them its sandboxes. All are the same parts.
 */
import path from 'node:path';
import { createApi } from './api/app.ts';
import type { ApiDeps } from './api/deps.ts';
import { EngineLinks } from './api/engine-links.ts';
import { fleetDesk } from './api/fleet-desk.ts';
import { listenHttp } from './api/listen.ts';
import { readiness } from './api/readiness.ts';
import { answerApi } from './engine/answer-api.ts';
import { assembleEngine } from './engine/assemble.ts';
import { storeChecks } from './engine/checks.ts';
import { Errands } from './engine/errands.ts';
import { FoldedSessions } from './engine/folded-sessions.ts';
import { HostLosses } from './engine/host-losses.ts';
import { HostTokens } from './engine/host-tokens.ts';
import { pinSession } from './engine/pin-session.ts';
import { bothPreviews, LocalPreviews } from './engine/preview-bus.ts';
import { Workspaces } from './engine/workspace.ts';
import { firstKey, fleetKey } from './guard/first-key.ts';
import { decide } from './guard/guard.ts';
import { openServerVault } from './guard/vault/open.ts';
import type { ModelConfig } from './model/catalogue.ts';
import { warmUp } from './model/openai-responses/index.ts';
import { builtInPrices, loadPriceList } from './model/prices.ts';
import { clockMs, failpoints } from './protocol/failpoint.ts';
import type { JsonObject } from './protocol/json.ts';
import { defaultTenant } from './protocol/tenant.ts';
import type { Limits } from './sandbox/executor.ts';
import { attachHost } from './sandbox/fleet/attach.ts';
import { Fleet } from './sandbox/fleet/fleet.ts';
import { connectHost, leaveHost } from './sandbox/host/adopt.ts';
import type { JoinedHostOptions } from './sandbox/host/run.ts';
import { hostNameOf, mintHostToken, readClusterSecret } from './sandbox/link/secret.ts';
import { listenForLinks, showAddress } from './sandbox/link/tls.ts';
import { makeDurableDirectory } from './store/durable-files.ts';
import { openBlobs, openStore } from './store/open.ts';
import type { Blobs, Store } from './store/store.ts';

export { probeDatabase } from './store/open.ts';
export const version = '0.1.0';

/** The machine's, unless a failpoint moves it. */
const now = failpoints.on ? clockMs : Date.now;

export type ServerOptions = {
  /** Everything of this server; made if it is not there. */
  dataDir: string;
  /** 0 picks a free one. */
  port: number;
  /** Default 127.0.0.1. */
  host?: string;
  /** Given by the operator; else one is made unless `knownApiKey` is still good. */
  apiKey?: string;
  /** From an earlier start, kept by the one who starts us. */
  knownApiKey?: string;
  model: ModelConfig;
  /** A JSON file of prices that come before ours. */
  pricesFile?: string;
  /** FROM:TO or FROM:TO:ro, bound into every sandbox. Loud in the log of every session. */
  binds?: string[];
  /** Runs agents without isolation. Loud in the log of every session. */
  allowUnisolated?: boolean;
  limits?: Partial<Limits>;
  onError?(error: unknown, about: string): void;
};

export type RunningServer = {
  url: string;
  /** A key that works; null never, but for the type of other roles. */
  apiKey: string;
  /** Lets go of sessions and stops. Commands under way go on in the host for a while, for the next server to adopt. */
  close(): Promise<void>;
};

const defaultLimits: Limits = {
  memoryBytes: 4 * 1024 ** 3,
  processes: 512,
  openFiles: 4096,
  tmpBytes: 512 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
};

const warmUpMs = 250;

/** What every role has. */
type Base = {
  store: Store;
  folded: FoldedSessions;
  blobs: Blobs;
  vault: ReturnType<typeof openServerVault>;
  onError(error: unknown, about: string): void;
};

/** Rejects with `StoreLocked` where another server has the data directory, and where the port or a file cannot be had. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const dataDir = path.resolve(options.dataDir);
  makeDurableDirectory(dataDir, 0o700);
  const store = await openStoreOf(dataDir);
  const undo: (() => unknown)[] = [() => store.close()];
  try {
    const base = baseOf(store, dataDir, options);
    const host = await connectHost(hostOptions(options, dataDir));
    const hello = await host.hello();
    undo.push(() => leaveHost(host, hello.runningCalls > 0));
    // The same way to the hands as in a fleet of many hosts.
    const fleet = new Fleet();
    fleet.add(hello, host, { isOurs: true });
    const previews = new LocalPreviews();
    const brain = brainOf(base, { ...options, fleet, previews });
    const apiKey = await firstKey(store, options);
    const closing = new AbortController();
    const api = apiOf(base, {
      previews,
      closing,
      sandbox: brain.workspaces,
      isolation: options.allowUnisolated ? 'none' : 'bubblewrap',
      ready: () => readiness({ store: store.nextWakeAt(), host: host.hello() }),
      doctor: () => doctor({ dataDir, model: options.model }),
      fleet: fleetDesk(store, () => fleet.hostsNow(), null),
    });
    const http = await listenHttp(api.fetch, options.port, options.host ?? '127.0.0.1');
    undo.push(() => http.close(closing));
    await brain.engine.start();
    brain.errands.start();
    warmUpLater(options.model);
    const close = async (): Promise<void> => {
      http.refuse();
      const isBusy = brain.engine.driving > 0;
      await Promise.all([brain.engine.stop(), brain.errands.stop()]);
      await http.close(closing);
      await leaveHost(host, isBusy);
      await store.close();
    };
    return { url: http.url, apiKey, close };
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

function baseOf(store: Store, dataDir: string, options: ServerOptions | RoleOptions): Base {
  return {
    store,
    vault: openServerVault({ ...options, store, dataDir, nowMs: now }),
    folded: new FoldedSessions(store),
    blobs: openBlobs(dataDir),
    onError: options.onError ?? ((error, about) => console.error(`scriptorium: ${about}:`, error)),
  };
}

type BrainOptions = Pick<ServerOptions, 'model' | 'pricesFile' | 'limits'> & {
  fleet: Fleet;
  previews: LocalPreviews;
  losses?: HostLosses;
  about?: () => JsonObject;
};

/** The engine, and what else works with the hands. */
function brainOf({ store, folded, blobs, onError }: Base, options: BrainOptions) {
  const { fleet, previews, losses, about } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const engine = assembleEngine({
    ...{ store, folded, blobs, executor: fleet, decide, limits, nowMs: now },
    model: options.model,
    prices: options.pricesFile === undefined ? builtInPrices : loadPriceList(options.pricesFile),
    ...(losses ? { losses } : {}),
    ...(about ? { about } : {}),
    onPreview: (session, frame) => previews.publish(session, frame),
    onError: (error, stream) => onError(error, stream ?? 'engine'),
  });
  return {
    engine,
    workspaces: new Workspaces({ store, folded, blobs, executor: fleet, limits, tenant: defaultTenant }),
    errands: new Errands({
      ...{ store, executor: fleet, onError: (error: unknown) => onError(error, 'errands') },
      ...(losses ? { losses } : {}),
    }),
  };
}

type ApiOptions = Pick<ApiDeps, 'previews' | 'sandbox' | 'isolation' | 'ready' | 'doctor' | 'fleet'> & {
  closing: AbortController;
};

function apiOf({ store, folded, blobs, vault, onError }: Base, { closing, ...deps }: ApiOptions) {
  return createApi({
    ...{ store, folded, blobs, vault, now, version, pinSession, ...deps },
    checks: storeChecks(store),
    closing: closing.signal,
    onBug: (error, requestId) => onError(error, requestId),
  });
}

/** The SDK takes a tenth of a second to load: not at start, and not in the first message's way either. */
function warmUpLater(model: ModelConfig): void {
  if (model.apiKey !== null) setTimeout(() => void warmUp().catch(() => undefined), warmUpMs).unref();
}

const summarizeModule = new URL(`./session/summary${path.extname(import.meta.url)}`, import.meta.url);

function openStoreOf(dataDir: string): Promise<Store> {
  return openStore({ directory: path.join(dataDir, 'store'), summarizeModule, now });
}

function hostOptions(options: ServerOptions, dataDir: string) {
  return {
    stateDir: path.join(dataDir, 'host'),
    allowUnisolated: options.allowUnisolated ?? false,
    binds: options.binds ?? [],
  };
}

export type RoleOptions = Pick<
  ServerOptions,
  'dataDir' | 'port' | 'host' | 'apiKey' | 'model' | 'pricesFile' | 'limits' | 'onError'
> & {
  roles: { api: boolean; engine: boolean };
  databaseUrl: string;
  masterKeyFile: string;
  clusterSecretFile: string;
  /** Where an engine listens for hosts and apis. */
  internal: { host: string; port: number };
  /** How they reach it, where that is another address. */
  internalAddress?: string;
  hostLostAfterMs: number;
  /** How long a model that is speaking may go on after SIGTERM. */
  drainMs: number;
};

export type RunningRole = {
  url: string | null;
  internalAddress: string | null;
  apiKey: string | null;
  /** Lets everything go in order: nothing is dropped, and others go on. */
  drain(): Promise<void>;
};

/** One process of a fleet on Postgres: api, engine or both. */
export async function startRole(options: RoleOptions): Promise<RunningRole> {
  const secret = readClusterSecret(options.clusterSecretFile);
  makeDurableDirectory(options.dataDir, 0o700);
  const { databaseUrl, masterKeyFile } = options;
  const store = await openStore({ databaseUrl, masterKeyFile, summarizeModule, now });
  const undo: (() => unknown)[] = [() => store.close()];
  try {
    const base = baseOf(store, path.resolve(options.dataDir), options);
    const engine = options.roles.engine ? await engineRole(base, options, secret) : null;
    if (engine) undo.push(() => engine.close());
    const api = options.roles.api ? await apiRole(base, options, { secret, engine }) : null;
    if (api) undo.push(() => api.close());
    const drain = async (): Promise<void> => {
      api?.refuse();
      await engine?.drain();
      await api?.close();
      await engine?.close();
      await store.close();
    };
    return {
      url: api?.url ?? null,
      apiKey: api?.apiKey ?? null,
      internalAddress: engine?.address ?? null,
      drain,
    };
  } catch (error) {
    for (const step of undo.reverse()) await step();
    throw error;
  }
}

type EngineRole = Awaited<ReturnType<typeof engineRole>>;

async function engineRole(base: Base, options: RoleOptions, secret: Buffer) {
  const { store, onError } = base;
  const fleet = new Fleet();
  const previews = new LocalPreviews();
  const losses = new HostLosses(store, options.hostLostAfterMs, now);
  const tokens = new HostTokens(store, now);
  let address = '';
  const roles = Object.entries(options.roles).flatMap(([role, is]) => (is ? [role] : []));
  const about = () => ({ roles, engine: address, pid: process.pid, version });
  const brain = brainOf(base, { ...options, fleet, previews, losses, about });
  const { workspaces } = brain;
  const links = await listenForLinks({
    ...{ secret, ...options.internal },
    onLink(identity, socket) {
      const name = hostNameOf(identity);
      if (name === null) return answerApi(socket, { previews, workspaces, fleet });
      const isRevoked = (of: string) => tokens.isRevoked(of);
      attachHost({ fleet, name, socket, isLost: (id) => losses.isLost(id), isRevoked }).then(
        (host) => 'refused' in host && onError(new Error(host.refused), 'host'),
        (error: unknown) => onError(error, 'host'),
      );
    },
  });
  address = options.internalAddress ?? showAddress({ ...options.internal, port: links.port });
  const unwatch = tokens.watch(
    (name) => fleet.cut(name),
    (error) => onError(error, 'host tokens'),
  );
  await brain.engine.start();
  brain.errands.start();
  warmUpLater(options.model);
  return {
    ...{ address, fleet, previews, workspaces },
    drain: async () => {
      await Promise.all([brain.engine.drain(options.drainMs), brain.errands.stop()]);
    },
    close: async () => {
      unwatch();
      await Promise.all([brain.engine.stop(), brain.errands.stop()]);
      await fleet.close();
      await links.close();
    },
  };
}

async function apiRole(
  base: Base,
  options: RoleOptions,
  with_: { secret: Buffer; engine: EngineRole | null },
) {
  const { store, blobs } = base;
  const { secret, engine } = with_;
  const closing = new AbortController();
  const links = new EngineLinks({ store, blobs, secret, own: engine?.address ?? null });
  await links.refresh();
  // Every host is connected to every engine: what our own engine sees is all there is.
  const hosts = async () => (engine ? engine.fleet.hosts() : links.hosts());
  const api = apiOf(base, {
    closing,
    previews: engine ? bothPreviews(engine.previews, links) : links,
    sandbox: engine?.workspaces ?? links,
    isolation: 'bubblewrap',
    ready: async () => ({
      ...(await readiness({ store: store.nextWakeAt() })),
      roles: options.roles,
      hosts_connected: (await hosts()).filter(({ isConnected }) => isConnected).length,
    }),
    doctor: () => doctor({ dataDir: options.dataDir, model: options.model }),
    fleet: fleetDesk(store, hosts, secret),
  });
  const apiKey = await fleetKey(store, options.apiKey);
  const http = await listenHttp(api.fetch, options.port, options.host ?? '127.0.0.1');
  return {
    ...{ url: http.url, apiKey, refuse: http.refuse },
    close: async () => {
      await http.close(closing);
      links.close();
    },
  };
}

/** A host of a fleet in this process. It gets nothing but its token. */
export async function startHostRole(options: JoinedHostOptions) {
  const { runJoinedHost } = await import('./sandbox/host/run.ts');
  return runJoinedHost(options);
}

/** For one host, or for all hosts that trust each other. */
export function hostToken(clusterSecretFile: string, name: string | undefined): string {
  return mintHostToken(readClusterSecret(clusterSecretFile), name);
}

/** What this machine can isolate and what is configured, with a remedy for each lack. No server need run. */
export async function doctor(about: { dataDir: string; model: ModelConfig }): Promise<JsonObject> {
  // Only asked for by people: nothing of it is loaded before.
  const { probe } = await import('./sandbox/probe.ts');
  const hasKey = about.model.apiKey !== null;
  const model: JsonObject = {
    check: 'model key',
    ok: hasKey,
    found: hasKey
      ? `set; requests go to ${about.model.baseURL ?? 'the provider itself'}`
      : 'OPENAI_API_KEY is not set',
    remedy: hasKey
      ? null
      : 'Set OPENAI_API_KEY (and OPENAI_BASE_URL for a compatible server) where the server starts.',
  };
  return { version, checks: [...(await probe({ dataDir: about.dataDir })), model] };
}

/** The checks of a store that no server has open. Rejects with `StoreLocked` where one has. */
export async function openChecks(dataDir: string) {
  const store = await openStoreOf(path.resolve(dataDir));
  const { fsck, replay } = storeChecks(store);
  const newest = { ...defaultTenant, kind: 'session', includeArchived: true, order: 'desc' } as const;
  return {
    fsck: (after: Parameters<typeof fsck>[1]) => fsck(defaultTenant, after),
    replay,
    newestSessions: async () =>
      (await store.listStreams({ ...newest, limit: 100 })).map(({ stream }) => stream),
    close: () => store.close(),
  };
}
