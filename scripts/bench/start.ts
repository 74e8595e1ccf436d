/** How long a server takes to be ready, and what it takes of memory: at rest, and after work. */
import { copyFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs, until } from './clock.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { Memory } from './processes.ts';
import { hostPid, memoryOf, temporaryFolder } from './processes.ts';
import type { ServerSettings } from './server-process.ts';
import { Server, statusOf } from './server-process.ts';

type Settings = Omit<ServerSettings, 'dataDir'>;

const pollMs = 3;
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
export async function memoryNow(server: Server): Promise<Memory> {
  const host = await hostPid(server.dataDir);
  return memoryOf(host === null ? [server.pid] : [server.pid, host]);
}
