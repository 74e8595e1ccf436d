/**
 * What sleeping sessions hold of memory: sum of PSS of all our processes after them, less before them, garbage collected
 * both times. All sessions are made through the API and have had a turn of the model; some have run a command, and their
 * sandboxes are gone again. The list of the API says that every one of them sleeps.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs, until } from './clock.ts';
import { load } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Memory } from './processes.ts';
import { hostPid, memoryOf, temporaryFolder } from './processes.ts';
import type { ServerSettings } from './server-process.ts';
import { collectingFlags, Server } from './server-process.ts';
import { memoryNow } from './start.ts';

type Settings = Omit<ServerSettings, 'dataDir'>;
type Resting = Memory & { liveBytes: number };
type IdleTimes = { idleMs: number; idleWithProcessesMs?: number };

/** Sandboxes go sooner than after the usual minute. */
const shortIdle: IdleTimes = { idleMs: 1_000 };
/** The host forgets a session sooner than after its quarter of an hour: who sleeps for days is beyond it. */
const pastIdle: IdleTimes = { idleMs: 1_000, idleWithProcessesMs: 2_000 };

/** Each has had a turn with a command just now; its sandbox has gone idle. */
export async function measureSleepers(settings: Settings, sessions: number): Promise<Figure[]> {
  const server = await embedded(settings, shortIdle);
  await oneByOne(server, warmSessions);
  const before = await resting(server);
  await oneByOne(server, sessions);
  const after = await resting(server);
  const descriptors = descriptorsOf(after.processes[1]?.pid ?? 0);
  await server.close();
  const hostMb = (after.processes[1]?.pssMb ?? 0) - (before.processes[1]?.pssMb ?? 0);
  return [
    figure(`memory of ${sessions} sleeping sessions`, 'MB', [after.totalMb - before.totalMb], {
      note: `change of PSS, of it the host ${signed(hostMb)} MB; the host has ${descriptors} descriptors open`,
    }),
    figure('  of it in use in the server', 'MB', [megabytes(after.liveBytes - before.liveBytes)], {
      note: 'after collection; what its pages hold beyond that is free for others',
    }),
  ];
}

export type SleepersPlan = { sessions: number; withCommand: number };

const targetMb = 20;
/** After the collection, which also gives back pages: what other threads give back comes a little later. */
const longRestMs = 7_000;

/** So many that nothing may be held for each. */
export async function measureManySleepers(settings: Settings, plan: SleepersPlan): Promise<Figure[]> {
  return [...(await onSqlite(settings, plan)), ...(await onPostgres(settings, plan))];
}

async function onSqlite(settings: Settings, { sessions, withCommand }: SleepersPlan): Promise<Figure[]> {
  const server = await embedded(settings, pastIdle);
  const fill = async (texts: number, commands: number): Promise<void> => {
    await makeSleepers(server, commands, { steps: '1' });
    await makeSleepers(server, texts, { steps: '0' });
  };
  await fill(warmSleepers, warmSessions);
  const before = await resting(server, longRestMs);
  const startMs = nowMs();
  await fill(sessions - withCommand, withCommand);
  const seconds = (nowMs() - startMs) / 1000;
  const after = await resting(server, longRestMs);
  await countSleepers(server, sessions + warmSleepers + warmSessions);
  await server.close();
  const name = `${sessions} sleeping sessions, SQLite`;
  const note = `change of PSS of server and host, each time after ${longRestMs / 1000} s of rest; all made through the API in ${seconds.toFixed(0)} s, ${withCommand} of them ran a command`;
  return [growth(name, before.totalMb, after.totalMb, note), live(before.liveBytes, after.liveBytes)];
}

async function onPostgres(settings: Settings, { sessions }: SleepersPlan): Promise<Figure[]> {
  const { peer, isIsolated, node } = settings;
  const fleet = await Fleet.open({ peer, isIsolated, ...(node === undefined ? {} : { node }) });
  const api = await fleet.serve('api', collectingFlags);
  const engine = await fleet.serve('engine', collectingFlags);
  await makeSleepers(api, warmSleepers, { steps: '0' });
  const measured = async (): Promise<{ totalMb: number; liveBytes: number }> => {
    const liveBytes = (await collected(api)) + (await collected(engine));
    await sleep(longRestMs);
    return { totalMb: memoryOf(fleet.pids).totalMb, liveBytes };
  };
  const before = await measured();
  await makeSleepers(api, sessions, { steps: '0' });
  const after = await measured();
  await countSleepers(api, sessions + warmSleepers);
  await fleet.close();
  const note = 'change of PSS of an api and an engine, Postgres itself not counted; no commands';
  return [
    growth(`${sessions} sleeping sessions, Postgres`, before.totalMb, after.totalMb, note),
    live(before.liveBytes, after.liveBytes),
  ];
}

function growth(name: string, beforeMb: number, afterMb: number, note: string): Figure {
  const whole = `${beforeMb.toFixed(0)} → ${afterMb.toFixed(0)} MB`;
  return figure(name, 'MB', [afterMb - beforeMb], { target: targetMb, note: `${note}; ${whole}` });
}

function live(beforeBytes: number, afterBytes: number): Figure {
  return figure('  of it in use', 'MB', [megabytes(afterBytes - beforeBytes)], {
    note: "after collection, in the servers' main threads",
  });
}

const megabytes = (bytes: number): number => bytes / 2 ** 20;
const signed = (value: number): string => `${value < 0 ? '' : '+'}${value.toFixed(1)}`;

/** Before counting begins: code is loaded and compiled, caches are full, heap and allocator have found their size. */
const warmSessions = 40;
const warmSleepers = 2_500;
const atOnce = 8;
const batch = 100;

async function oneByOne(server: Server, count: number): Promise<void> {
  for (let at = 0; at < count; at++) await server.run(await server.createSession(), { steps: '1' });
}

/** Made, and at rest. */
async function makeSleepers(server: Server, count: number, message: Record<string, string>): Promise<void> {
  for (let made = 0; made < count; made += batch) {
    let left = Math.min(batch, count - made);
    const make = async (): Promise<void> => {
      while (left-- > 0) await server.createSession(message);
    };
    // The first one prepares what all need.
    if (made === 0) await server.createSession(message).then(() => (left -= 1));
    await Promise.all(Array.from({ length: atOnce }, make));
    await until('the sessions to sleep', 60_000, async () => {
      await sleep(10);
      return (await listed(server, 'statuses[]=running&limit=1')).length === 0;
    });
  }
}

type Listed = { id: string; status: string };

async function listed(server: Server, query: string): Promise<Listed[]> {
  return (await server.must('GET', `/v1/sessions?${query}`)).body.data as Listed[];
}

async function countSleepers(server: Server, expected: number): Promise<void> {
  let count = 0;
  for (let page: string | null = ''; page !== null; ) {
    const more: string = page === '' ? '' : `&page=${encodeURIComponent(page)}`;
    const { body } = await server.must('GET', `/v1/sessions?limit=100${more}`);
    const sessions = body.data as Listed[];
    const awake = sessions.find(({ status }) => status !== 'idle');
    if (awake !== undefined) throw new Error(`${awake.id} does not sleep, it is ${awake.status}`);
    count += sessions.length;
    page = typeof body.next_page === 'string' ? body.next_page : null;
  }
  if (count !== expected) throw new Error(`there should be ${expected} sessions, not ${count}`);
}

/** A server whose host lets go of what is idle sooner. */
async function embedded(settings: Settings, idle: IdleTimes): Promise<Server> {
  const dataDir = await temporaryFolder('sleepers');
  const { startHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const options = {
    ...{ stateDir: join(dataDir, 'host'), allowUnisolated: !settings.isIsolated, binds: [] },
    ...idle,
  };
  startedWith(settings.node ?? process.execPath, () => startHost(options));
  await until('the host', 10_000, async () => (await hostPid(dataDir)) !== null);
  const flags = [...(settings.flags ?? []), ...collectingFlags];
  return (await Server.start({ ...settings, dataDir, flags })).watch(settings.peer);
}

/** `startHost` runs its own executable; for a moment ours is another. */
function startedWith(program: string, act: () => unknown): void {
  const own = process.execPath;
  process.execPath = program;
  act();
  process.execPath = own;
}

async function resting(server: Server, restMs = 1_000): Promise<Resting> {
  await until('all sandboxes to go idle', 60_000, async () => {
    await sleep(200);
    return (await memoryNow(server)).processes.length <= restingProcesses;
  });
  const liveBytes = await collected(server);
  await sleep(restMs);
  return { ...(await memoryNow(server)), liveBytes };
}

/** Server, host, and the host's lock holder. */
const restingProcesses = 3;

/** Twice, and a moment: what finalisers and the allocator give back comes a little later. In bytes still in use. */
async function collected(server: Server): Promise<number> {
  await server.collectGarbage();
  await sleep(500);
  return server.collectGarbage();
}

function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return Number.NaN;
  }
}
