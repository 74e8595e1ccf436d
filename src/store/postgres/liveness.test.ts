/** Who is taken for dead, how they learn it, and that they can harm nobody afterwards (L3). */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import type { Said } from '../../../test/peers/store-worker.ts';
import { TcpProxy } from '../../../test/peers/tcp-proxy.ts';
import { appendOf, claimed, create, okOf, readAll, tenant } from '../conformance/scratch.ts';
import type { Store } from '../store.ts';
import { databaseOf, discard, open, serverVariable } from './engine-under-test.ts';

let server: PostgresServer;
let proxy: TcpProxy;
let directory: string;
let store: Store;
const stores: Store[] = [];
const children: ChildProcess[] = [];

/** So long that only the lock can tell within a test that its worker is dead. */
const longLease = { leaseMs: 120_000, renewEveryMs: 300, marginMs: 800 };
/** Short, so that a test need not wait ten seconds. */
const lease = { leaseMs: 2_500, renewEveryMs: 300, marginMs: 800 };

beforeAll(async () => {
  server = await PostgresServer.start();
  process.env[serverVariable] = server.url('postgres');
});
afterAll(() => server.stop());

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-living-'));
  proxy = await TcpProxy.start({ host: '127.0.0.1', port: server.port });
  store = await open(directory);
  stores.push(store);
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await proxy.stop();
  await Promise.all(stores.splice(0).map((one) => one.close()));
  await discard(directory);
  await rm(directory, { recursive: true });
});

async function openThrough(network: TcpProxy, ofLease = lease): Promise<Store> {
  const databaseUrl = server.url(databaseOf(directory), network.address);
  const opened = await open(directory, {
    databaseUrl,
    lease: ofLease,
    statementTimeoutMs: 1_000,
    connectTimeoutMs: 1_000,
  });
  stores.push(opened);
  return opened;
}

/** The server's processes behind the connections to this database, by what they are for. */
async function backends(): Promise<Record<'work' | 'liveness' | 'notifications', number[]>> {
  const rows = await server.query<{ name: string; pid: number }>(
    databaseOf(directory),
    `SELECT application_name AS name, pid FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'scriptorium %' ORDER BY pid`,
  );
  const of = (name: string) => rows.filter((row) => row.name === `scriptorium ${name}`).map(({ pid }) => pid);
  return { work: of('work'), liveness: of('liveness'), notifications: of('notifications') };
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (await holds()) return;
    await sleep(10);
  }
  throw new Error('it never came to that');
}

function startWorker(ofLease = lease): { child: ChildProcess; said: Said[] } {
  const script = fileURLToPath(new URL('../../../test/peers/store-worker.ts', import.meta.url));
  const module = new URL('./engine-under-test.ts', import.meta.url).href;
  const child = spawn(process.execPath, [script, module, directory, JSON.stringify({ lease: ofLease })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  const said: Said[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    if (line.endsWith('}')) said.push(JSON.parse(line) as Said);
  });
  return { child, said };
}

it('a worker whose liveness connection alone is cut is taken for dead, learns it, and can write no more', async () => {
  const cut = await openThrough(proxy, longLease);
  const member = await cut.join();
  const { fence } = await claimed(cut, 's', member.worker);
  // Twice, so that it remembers the stream as its own: nothing but the fence tells it that this is over.
  for (const _ of [1, 2]) okOf(await cut.append(appendOf('s', { fence })));
  expect(await store.reapDead()).toBe(0);
  expect(proxy.cut('scriptorium liveness')).toBe(1);
  await until(() => member.lost.aborted);
  expect(member.lost.reason).toMatchObject({ name: 'StoreUnavailable' });
  await until(async () => (await store.reapDead()) === 1);
  expect(await store.workers()).toEqual([]);
  expect(await cut.append(appendOf('s', { fence }))).toMatchObject({ status: 'fenced' });
  // Its other connections are sound: it joins again and goes on under a new name.
  const again = await cut.join();
  expect(again.worker).not.toBe(member.worker);
  const [claim] = await cut.claim(again.worker, 1);
  okOf(await cut.append(appendOf('s', { fence: claim?.fence ?? 0 })));
});

it('a worker behind a network that swallows everything gives up before others take over, and heals without harm', async () => {
  const partitioned = await openThrough(proxy);
  const member = await partitioned.join();
  const { fence } = await claimed(partitioned, 's', member.worker);
  let takenOver = 0;
  proxy.swallow();
  await until(async () => {
    takenOver += await store.reapDead();
    return takenOver > 0 || member.lost.aborted;
  });
  // Its own clock is the stricter one.
  expect([takenOver, member.lost.aborted]).toEqual([0, true]);
  await until(async () => (await store.reapDead()) === 1);
  const [claim] = await store.claim('wrkr_other', 1);
  okOf(await store.append(appendOf('s', { fence: claim?.fence ?? 0 })));
  proxy.heal();
  await until(async () => {
    const result = await partitioned.append(appendOf('s', { fence })).catch(() => null);
    return result?.status === 'fenced';
  });
  expect(await readAll(store, 's')).toHaveLength(2);
});

it('a process that is frozen for longer than its lease finds its streams taken and every append refused', async () => {
  await create(store, 's', { wakeAt: 0 });
  const { child, said } = startWorker();
  await until(() => said.some(({ what }) => what === 'appended'));
  child.kill('SIGSTOP');
  await until(async () => (await store.reapDead()) === 1);
  const [claim] = await store.claim('wrkr_other', 1);
  okOf(await store.append(appendOf('s', { fence: claim?.fence ?? 0 })));
  const before = (await readAll(store, 's')).length;
  const heardBefore = said.length;
  child.kill('SIGCONT');
  await until(() => said.some(({ what }) => what === 'lost'));
  await until(() =>
    said.slice(heardBefore).some((one) => one.what === 'appended' && one.status === 'fenced'),
  );
  const log = await readAll(store, 's');
  expect(log.slice(before)).toEqual([]);
  const fences = log.map((event) => event.fence ?? 0);
  expect(fences).toEqual([...fences].sort((one, other) => one - other));
});

it('kill -9 of a worker frees what it held at once, long before its lease ends', async () => {
  await create(store, 's', { wakeAt: 0 });
  const { child, said } = startWorker(longLease);
  await until(() => said.some(({ what }) => what === 'appended'));
  expect(await store.workers()).toMatchObject([{ info: { pid: child.pid } }]);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await until(async () => (await store.reapDead()) === 1);
  expect(await store.claim('wrkr_other', 1)).toMatchObject([{ stream: 's' }]);
});

it('a process that blocks its event loop for longer than its lease is lost the moment it is back', async () => {
  const blocked = await openThrough(proxy);
  const member = await blocked.join();
  await claimed(blocked, 's', member.worker);
  const endsAt = performance.now() + lease.leaseMs + 300;
  while (performance.now() < endsAt);
  await new Promise((resolve) => setImmediate(resolve));
  await sleep(0);
  expect(member.lost.aborted).toBe(true);
  await until(async () => (await store.reapDead()) === 1);
});

it('a worker that renews its lease lives on for as long as it does', async () => {
  const living = await openThrough(proxy);
  const member = await living.join();
  const { fence } = await claimed(living, 's', member.worker);
  await sleep(1.2 * lease.leaseMs);
  expect(await store.reapDead()).toBe(0);
  expect(member.lost.aborted).toBe(false);
  okOf(await living.append(appendOf('s', { fence })));
});

it('connections that are replaced by age are those for work; the one that says who is alive stays as it is', async () => {
  const others = await backends();
  const recycling = await open(directory, { lease, maxAgeSeconds: 1 });
  stores.push(recycling);
  const member = await recycling.join();
  const { fence } = await claimed(recycling, 's', member.worker);
  const before = await backends();
  const mine = before.work.filter((pid) => !others.work.includes(pid));
  expect([mine.length > 0, before.liveness.length]).toEqual([true, 1]);
  await until(async () => {
    okOf(await recycling.append(appendOf('s', { fence })));
    const now = await backends();
    return mine.every((pid) => !now.work.includes(pid));
  });
  // Of the other connections' age, twice: by then the lease has been renewed on it many times.
  await sleep(1_200);
  const after = await backends();
  expect(after.liveness).toEqual(before.liveness);
  expect(after.notifications).toEqual(before.notifications);
  expect(await store.reapDead()).toBe(0);
  expect(member.lost.aborted).toBe(false);
  okOf(await recycling.append(appendOf('s', { fence })));
});

it('a claim that arrives after its worker was declared dead is freed by whoever reaps next', async () => {
  const cut = await openThrough(proxy);
  const member = await cut.join();
  proxy.cut('scriptorium liveness');
  await until(() => member.lost.aborted);
  await until(async () => {
    await store.reapDead();
    return (await store.workers()).length === 0;
  });
  await create(store, 's', { wakeAt: 0 });
  expect(await cut.claim(member.worker, 1)).toHaveLength(1);
  expect(await store.reapDead()).toBe(1);
  expect(await store.stream(tenant, 's')).toMatchObject({ owner: null });
});

it('a restart of the server frees everything, and everyone learns that they have to join again', async () => {
  const member = await store.join();
  await claimed(store, 's', member.worker);
  await server.kill();
  await server.boot();
  await until(() => member.lost.aborted);
  await until(async () => (await store.reapDead().catch(() => 0)) === 1);
  const again = await store.join();
  expect(await store.claim(again.worker, 1)).toMatchObject([{ stream: 's' }]);
});
