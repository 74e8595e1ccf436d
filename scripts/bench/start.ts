/** How long a server takes to be ready, and what it takes of memory: at rest, after work, with many asleep. */
import { readdirSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs, until } from './clock.ts';
import { load } from './code-under-test.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { Memory } from './processes.ts';
import { hostPid, memoryOf, temporaryFolder } from './processes.ts';
import type { ServerSettings } from './server-process.ts';
import { collectingFlags, Server, statusOf } from './server-process.ts';

type Settings = Omit<ServerSettings, 'dataDir'>;

const pollMs = 3;
/** For the measurement of sleepers only: their sandboxes go sooner than after the usual minute. */
const shortIdleMs = 1_000;

export async function measureStart(settings: Settings, starts: number): Promise<Figure[]> {
  const ready: number[] = [];
  const line: number[] = [];
  for (let at = 0; at < starts; at++) {
    const port = await freePort();
    const dataDir = await temporaryFolder('start');
    const spawnedMs = nowMs();
    const [readyMs, server] = await Promise.all([
      firstReady(new URL(`http://127.0.0.1:${port}/readyz`), spawnedMs),
      Server.start({ ...settings, dataDir, port }),
    ]);
    ready.push(readyMs);
    line.push(server.readyAtMs - server.spawnedAtMs);
    await server.close();
  }
  return [
    figure('server spawn → /readyz 200', 'ms', ready, {
      target: 1000,
      note: `fresh data directories, host started with it; the first took ${ready[0]?.toFixed(0)}`,
    }),
    figure('  → ready line', 'ms', line, { target: 1000 }),
  ];
}

async function firstReady(url: URL, spawnedMs: number): Promise<number> {
  let atMs = 0;
  await until('/readyz', 20_000, async () => {
    if ((await statusOf(url)) === 200) atMs = nowMs();
    else await sleep(pollMs);
    return atMs > 0;
  });
  return atMs - spawnedMs;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** A copy of Node: pages that the bench and others map would be counted only in part. */
export async function copiedNode(): Promise<string> {
  const copy = join(await temporaryFolder('node'), 'node');
  await copyFile(process.execPath, copy);
  return copy;
}

export async function measureIdleMemory(settings: Settings, rounds: number): Promise<Figure[]> {
  const idle: Memory[] = [];
  const used: Memory[] = [];
  for (let at = 0; at < rounds; at++) {
    const server = (await Server.start({ ...settings, dataDir: await temporaryFolder('idle') })).watch(
      settings.peer,
    );
    await sleep(1_000);
    idle.push(await memoryNow(server));
    await server.run(await server.createSession(), { steps: '3' });
    await sleep(1_000);
    used.push(await memoryNow(server));
    await server.close();
  }
  return [
    figure('idle memory, all our processes', 'MB', idle.map(total), { target: 160, note: parts(idle) }),
    figure('  after one finished session', 'MB', used.map(total), {
      target: 160,
      note: `${parts(used)}; its sandbox still warm`,
    }),
  ];
}

const total = (memory: Memory): number => memory.totalMb;

function parts(all: readonly Memory[]): string {
  const last = all.at(-1)?.processes ?? [];
  return `sum of PSS: ${last.map(({ name, pssMb }, at) => `${partName(name, at)} ${pssMb.toFixed(1)}`).join(', ')}`;
}

/** The server is asked for first and the host second; both are called node. */
function partName(name: string, at: number): string {
  return ['server', 'host'][at] ?? name;
}

/** The server and the host, each with all below it. */
async function memoryNow(server: Server): Promise<Memory> {
  const host = await hostPid(server.dataDir);
  return memoryOf(host === null ? [server.pid] : [server.pid, host]);
}

/** What sleeping sessions hold: each has had a turn with a command; its sandbox has gone idle. */
export async function measureSleepers(settings: Settings, sessions: number): Promise<Figure[]> {
  const dataDir = await temporaryFolder('sleepers');
  const { startHost } =
    await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const stateDir = join(dataDir, 'host');
  const program = settings.node;
  if (program !== undefined) await startedWith(program, () => startHost(hostOptions(stateDir, settings)));
  else startHost(hostOptions(stateDir, settings));
  await until('the host', 10_000, async () => (await hostPid(dataDir)) !== null);
  const flags = [...(settings.flags ?? []), ...collectingFlags];
  const server = (await Server.start({ ...settings, dataDir, flags })).watch(settings.peer);
  await manySessions(server, warmSessions);
  const before = await restingMemory(server);
  await manySessions(server, sessions);
  const after = await restingMemory(server);
  const descriptors = descriptorsOf(after.processes[1]?.pid ?? 0);
  await server.close();
  const change = after.totalMb - before.totalMb;
  const hostMb = (after.processes[1]?.pssMb ?? 0) - (before.processes[1]?.pssMb ?? 0);
  return [
    figure(`memory of ${sessions} sleeping sessions`, 'MB', [change], {
      note: `change of PSS, of it the host ${signed(hostMb)} MB; the host has ${descriptors} descriptors open`,
    }),
    figure('  of it in use in the server', 'MB', [(after.liveBytes - before.liveBytes) / 2 ** 20], {
      note: 'after collection; what its pages hold beyond that is free for others',
    }),
  ];
}

/** Before counting begins: code is loaded and compiled, and the heap has found its size. */
const warmSessions = 40;

function descriptorsOf(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return Number.NaN;
  }
}

const signed = (value: number): string => `${value < 0 ? '' : '+'}${value.toFixed(1)}`;

function hostOptions(stateDir: string, { isIsolated }: Settings) {
  return { stateDir, idleMs: shortIdleMs, allowUnisolated: !isIsolated, binds: [] };
}

/** `startHost` runs its own executable; for a moment ours is another. */
async function startedWith(program: string, act: () => unknown): Promise<void> {
  const own = process.execPath;
  process.execPath = program;
  act();
  process.execPath = own;
}

async function manySessions(server: Server, count: number): Promise<void> {
  for (let at = 0; at < count; at++) await server.run(await server.createSession(), { steps: '1' });
}

async function restingMemory(server: Server): Promise<Memory & { liveBytes: number }> {
  await until('all sandboxes to go idle', 60_000, async () => {
    await sleep(200);
    return (await memoryNow(server)).processes.length <= restingProcesses;
  });
  // Twice, and a moment: what finalisers and the allocator give back comes a little later.
  await server.collectGarbage();
  await sleep(500);
  const liveBytes = await server.collectGarbage();
  await sleep(1_000);
  return { ...(await memoryNow(server)), liveBytes };
}

/** Server, host, and the host's lock holder. */
const restingProcesses = 3;
