/**
 * The composition root: builds every part once, starts and stops them in order. The only file that knows everything.
 *
 * `startServer` is api and engine in this process, over an embedded store, with a host in a process of its own that it
 * finds running or starts.
 */
import { mkdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { getRequestListener } from '@hono/node-server';
import { createApi } from './api/app.ts';
import type { Readiness } from './api/deps.ts';
import { assembleEngine } from './engine/assemble.ts';
import { storeChecks } from './engine/checks.ts';
import type { Engine } from './engine/engine.ts';
import { Errands } from './engine/errands.ts';
import { FoldedSessions } from './engine/folded-sessions.ts';
import { pinSession } from './engine/pin-session.ts';
import { LocalPreviews } from './engine/preview-bus.ts';
import { Workspaces } from './engine/workspace.ts';
import { decide } from './guard/guard.ts';
import { createApiKey, identify, storeApiKey } from './guard/identity.ts';
import type { ModelConfig } from './model/catalogue.ts';
import { warmUp } from './model/openai-responses/index.ts';
import { builtInPrices, loadPriceList } from './model/prices.ts';
import { clockMs, failpoints } from './protocol/failpoint.ts';
import type { JsonObject } from './protocol/json.ts';
import { defaultTenant } from './protocol/tenant.ts';
import type { Limits } from './sandbox/executor.ts';
import { HostUnreachable } from './sandbox/executor.ts';
import { connectHost } from './sandbox/host/adopt.ts';
import type { HostClient } from './sandbox/host/client.ts';

import { openBlobs, openStore } from './store/open.ts';
import type { Blobs, Store } from './store/store.ts';

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
/** How long open streams may take to end in order. */
const streamEndMs = 1_000;

type Parts = {
  store: Store;
  blobs: Blobs;
  host: HostClient;
  engine: Engine;
  errands: Errands;
  http: Server;
  closing: AbortController;
};

/** Rejects with `StoreLocked` where another server has the data directory, and where the port or a file cannot be had. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const dataDir = path.resolve(options.dataDir);
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const onError = options.onError ?? ((error, about) => console.error(`scriptorium: ${about}:`, error));
  const prices = options.pricesFile === undefined ? builtInPrices : loadPriceList(options.pricesFile);
  const store = await openStoreOf(dataDir);
  const started: Partial<Parts> = { store };
  try {
    const blobs = openBlobs(dataDir);
    const host = await connectHost(hostOptions(options, dataDir));
    started.host = host;
    const limits = { ...defaultLimits, ...options.limits };
    const previews = new LocalPreviews();
    const closing = new AbortController();
    const folded = new FoldedSessions(store);
    const engine = assembleEngine({
      store,
      folded,
      blobs,
      executor: host,
      decide,
      model: options.model,
      prices,
      limits,
      nowMs: now,
      onPreview: (session, frame) => previews.publish(session, frame),
      onError: (error, stream) => onError(error, stream ?? 'engine'),
    });
    const apiKey = await firstKey(store, options);
    const workspaces = new Workspaces({ store, blobs, executor: host, limits, tenant: defaultTenant });
    const api = createApi({
      store,
      folded,
      blobs,
      now,
      previews,
      isolation: options.allowUnisolated ? 'none' : 'bubblewrap',
      version,
      pinSession,
      sandbox: workspaces,
      checks: storeChecks(store),
      ready: () => readiness(store, host),
      doctor: () => doctor({ dataDir, model: options.model }),
      closing: closing.signal,
      onBug: (error, requestId) => onError(error, requestId),
    });
    const http = createServer(getRequestListener(api.fetch));
    await listen(http, options.port, options.host ?? '127.0.0.1');
    started.http = http;
    await engine.start();
    const errands = new Errands({ store, executor: host, onError: (error) => onError(error, 'errands') });
    errands.start();
    // The SDK takes a tenth of a second to load: not at start, and not in the first message's way either.
    if (options.model.apiKey !== null)
      setTimeout(() => void warmUp().catch(() => undefined), warmUpMs).unref();
    return running({ store, blobs, host, engine, errands, http, closing }, apiKey);
  } catch (error) {
    started.http?.close();
    await started.host?.close();
    await store.close();
    throw error;
  }
}

function openStoreOf(dataDir: string): Promise<Store> {
  const summarizeModule = new URL(`./session/summary${path.extname(import.meta.url)}`, import.meta.url);
  return openStore({ directory: path.join(dataDir, 'store'), summarizeModule, now });
}

function hostOptions(options: ServerOptions, dataDir: string) {
  return {
    stateDir: path.join(dataDir, 'host'),
    allowUnisolated: options.allowUnisolated ?? false,
    binds: options.binds ?? [],
  };
}

function running(parts: Parts, apiKey: string): RunningServer {
  const { address, port, family } = parts.http.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    apiKey,
    async close() {
      const closed = new Promise((resolve) => parts.http.close(resolve));
      const isBusy = parts.engine.driving > 0;
      await Promise.all([parts.engine.stop(), parts.errands.stop()]);
      await endConnections(parts, closed);
      await leaveHost(parts.host, isBusy);
      await parts.store.close();
    },
  };
}

/** After the engine's last word: streams end in order; a reader that takes nothing does not hold us up for long. */
async function endConnections({ closing, http }: Parts, closed: Promise<unknown>): Promise<void> {
  closing.abort();
  // Node closes those that are idle when the server closes, and forgets those that become idle afterwards.
  const sweep = setInterval(() => http.closeIdleConnections(), 10);
  await Promise.race([closed, sleep(streamEndMs, undefined, { ref: false })]);
  clearInterval(sweep);
  http.closeAllConnections();
  await closed;
}

/** A host with work under way waits for the next server; an idle one ends with us (S5). */
async function leaveHost(host: HostClient, isBusy: boolean): Promise<void> {
  try {
    if (!isBusy) await host.shutdownHost();
  } catch (error) {
    if (!(error instanceof HostUnreachable)) throw error;
  }
  await host.close();
}

/** The operator's key, the one that was good before, or a fresh one. Only hashes are stored (S1). */
async function firstKey(store: Store, options: ServerOptions): Promise<string> {
  const actor = 'operator:startup';
  const nowMs = Date.now();
  if (options.apiKey !== undefined) {
    await storeApiKey(store, { key: options.apiKey, name: 'environment', actor, nowMs });
    return options.apiKey;
  }
  if (options.knownApiKey !== undefined && (await identify(store, options.knownApiKey)))
    return options.knownApiKey;
  return (await createApiKey(store, { name: 'first', actor, nowMs })).key;
}

function listen(http: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', reject);
    http.listen(port, host, () => {
      http.off('error', reject);
      resolve();
    });
  });
}

async function readiness(store: Store, host: HostClient): Promise<Readiness> {
  const check = async (work: Promise<unknown>) => {
    try {
      await work;
      return { ok: true };
    } catch (error) {
      return { ok: false, message: error instanceof Error ? error.message : String(error) };
    }
  };
  const checks = { store: await check(store.nextWakeAt()), host: await check(host.hello()) };
  return { ok: checks.store.ok && checks.host.ok, checks };
}

/** What this machine can isolate and what is configured, with a remedy for each lack. No server need run. */
export async function doctor(about: { dataDir: string; model: ModelConfig }): Promise<JsonObject> {
  // Only asked for by people: nothing of it is loaded before.
  const { probe } = await import('./sandbox/probe.ts');
  const checks: JsonObject[] = await probe({ dataDir: about.dataDir });
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
  return { version, checks: [...checks, model] };
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
