/**
 * Where the time of a step goes: the same engine, store, host and wire, in this process, with a stopwatch at each of the
 * engine's ports. The peer's own times are of the same clock, so the parts are a chain without gaps.
 */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ApiDeps } from '../../src/api/deps.ts';
import type { Executor, Limits } from '../../src/sandbox/executor.ts';
import type { Append, Store } from '../../src/store/store.ts';
import { nowMs } from './clock.ts';
import { load, moduleFile } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { PeerRecord } from './peer.ts';
import type { Peer } from './peer-process.ts';
import { temporaryFolder } from './processes.ts';

type Lap = { name: string; startMs: number; endMs: number };

const limits: Limits = {
  memoryBytes: 4 * 1024 ** 3,
  processes: 512,
  openFiles: 4096,
  tmpBytes: 512 * 1024 ** 2,
  fileBytes: 4 * 1024 ** 3,
};

export async function measureWaterfall(peer: Peer, isIsolated: boolean, steps: number): Promise<Figure[]> {
  const laps: Lap[] = [];
  await peer.records();
  await runTraced(peer, isIsolated, steps, laps);
  const records = await peer.records();
  const parts = new Map<string, number[]>();
  for (const [at, record] of records.entries()) {
    const next = records[at + 1];
    // The first steps load code and bring the sandbox up.
    if (at < warmSteps || next === undefined) continue;
    for (const [name, ms] of chainOf(record, next, laps)) parts.set(name, [...(parts.get(name) ?? []), ms]);
  }
  return [...parts].map(([name, values]) => figure(`  part: ${name}`, 'ms', values));
}

const warmSteps = 5;

/** All that a session of so many steps appends, as api and engine hand it to the store. */
export async function recordedAppends(peer: Peer, isIsolated: boolean, steps: number): Promise<Append[]> {
  const appends: Append[] = [];
  await peer.records();
  await runTraced(peer, isIsolated, steps, [], (append) => appends.push(append));
  await peer.records();
  return appends;
}

/** From one answer to the next request, as the ports were crossed. */
function chainOf(record: PeerRecord, next: PeerRecord, laps: readonly Lap[]): [string, number][] {
  const within = laps.filter((lap) => lap.startMs > record.receivedAtMs && lap.endMs < next.receivedAtMs);
  const chain: [string, number][] = [];
  let atMs = record.answeredAtMs;
  const appends = { count: 0 };
  for (const lap of within) {
    if (lap.name === 'append') appends.count += 1;
    const name = lap.name === 'append' ? `append ${appends.count}` : lap.name;
    const before = chain.length === 0 ? 'answer → read, folded, decided' : `before ${name}`;
    chain.push([before, lap.startMs - atMs], [name, lap.endMs - lap.startMs]);
    atMs = lap.endMs;
  }
  chain.push(['rendered, sent → whole at the peer', next.receivedAtMs - atMs]);
  return chain;
}

async function runTraced(
  peer: Peer,
  isIsolated: boolean,
  steps: number,
  laps: Lap[],
  onAppend: (append: Append) => void = () => {},
): Promise<void> {
  const dataDir = await temporaryFolder('waterfall');
  const { openStore, openBlobs } = await load<typeof import('../../src/store/open.ts')>('src/store/open');
  const { connectHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const { assembleEngine } = await load<typeof import('../../src/engine/assemble.ts')>('src/engine/assemble');
  const { decide } = await load<typeof import('../../src/guard/guard.ts')>('src/guard/guard');
  const { builtInPrices } = await load<typeof import('../../src/model/prices.ts')>('src/model/prices');
  const summarizeModule = pathToFileURL(moduleFile('src/session/summary'));
  const opened = await openStore({ directory: join(dataDir, 'store'), summarizeModule });
  const store = overheard(opened, onAppend);
  const host = await connectHost({ stateDir: join(dataDir, 'host'), allowUnisolated: !isIsolated });
  const blobs = openBlobs(dataDir);
  const engine = assembleEngine({
    store: stopwatch(store, laps, ['append']),
    blobs,
    executor: stopwatch<Executor>(host, laps, ['createSandbox', 'startProcess', 'readProcess']),
    decide,
    model: { apiKey: peer.apiKey, baseURL: peer.url },
    prices: builtInPrices,
    limits,
    onPreview: () => {},
    onError: (error) => process.stderr.write(`bench: the traced engine: ${String(error)}\n`),
  });
  const done = peer.done();
  try {
    await engine.start();
    await beginSession(store, blobs, isIsolated, steps);
    await done;
  } finally {
    await engine.stop();
    await host.shutdownHost();
    await host.close();
    await store.close();
  }
}

function overheard(store: Store, onAppend: (append: Append) => void): Store {
  return new Proxy(store, {
    get(object, property) {
      const value: unknown = Reflect.get(object, property);
      if (typeof value !== 'function') return value;
      const method = value.bind(object) as (...args: unknown[]) => unknown;
      if (property !== 'append') return method;
      return (append: Append) => {
        onAppend(append);
        return method(append);
      };
    },
  });
}

/** The same object with the time of some of its methods taken. */
function stopwatch<T extends object>(target: T, laps: Lap[], methods: (keyof T & string)[]): T {
  return new Proxy(target, {
    get(object, property) {
      const value: unknown = Reflect.get(object, property);
      if (typeof value !== 'function') return value;
      const method = value.bind(object) as (...args: unknown[]) => unknown;
      const name = methods.find((one) => one === property);
      if (name === undefined) return method;
      return async (...args: unknown[]) => {
        const lap = { name, startMs: nowMs(), endMs: Number.POSITIVE_INFINITY };
        laps.push(lap);
        const result = await method(...args);
        lap.endMs = nowMs();
        return result;
      };
    },
  });
}

async function beginSession(
  store: Store,
  blobs: ApiDeps['blobs'],
  isIsolated: boolean,
  steps: number,
): Promise<void> {
  const { createApi } = await load<typeof import('../../src/api/app.ts')>('src/api/app');
  const { createApiKey } = await load<typeof import('../../src/guard/identity.ts')>('src/guard/identity');
  const { pinSession } =
    await load<typeof import('../../src/engine/pin-session.ts')>('src/engine/pin-session');
  const { key } = await createApiKey(store, { name: 'bench', actor: 'bench', nowMs: Date.now() });
  const noWorkspace = async () => ({ ok: false, reason: 'no_workspace', message: '' }) as const;
  const unasked = () => Promise.reject(new Error('the bench asks for no check'));
  const { FoldedSessions } = await load<typeof import('../../src/engine/folded-sessions.ts')>(
    'src/engine/folded-sessions',
  );
  const api = createApi({
    store,
    folded: new FoldedSessions(store),
    blobs,
    now: Date.now,
    previews: { subscribe: () => () => {} },
    isolation: isIsolated ? 'bubblewrap' : 'none',
    version: 'bench',
    pinSession,
    sandbox: { diff: noWorkspace, exportBundle: noWorkspace },
    checks: { fsck: unasked, replay: unasked },
    ready: async () => ({ ok: true, checks: {} }),
    doctor: async () => ({}),
  });
  const post = async (where: string, body: object): Promise<Record<string, unknown>> => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const response = await api.request(where, { method: 'POST', headers, body: JSON.stringify(body) });
    const answer = (await response.json()) as Record<string, unknown>;
    if (response.status !== 200) throw new Error(`${where}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const permission = { permission_policy: { type: 'always_allow' } };
  const tools = [{ type: 'agent_toolset_20260401', default_config: permission }];
  const agent = await post('/v1/agents', { name: 'Traced', model: 'rehearsal-1', tools });
  const environment = await post('/v1/environments', { name: 'traced' });
  const text = JSON.stringify({ steps: String(steps) });
  const initial = { type: 'user.message', content: [{ type: 'text', text }] };
  await post('/v1/sessions', {
    agent: agent.id,
    environment_id: environment.id,
    initial_events: [initial],
  });
}
