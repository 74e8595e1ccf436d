/**
 * The machine of the primary dies and its standby takes over. Where commits waited for the standby, nothing that was
 * acknowledged is lost and no fence goes back (L2, L3). Where they did not, both happen, and the same judge must see it:
 * that is why the documents ask for a synchronous standby.
 *
 * In both cases the standby hears nothing of the last writes before the primary is killed for good.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import { TcpProxy } from '../../../test/peers/tcp-proxy.ts';
import { appendOf, create, draft, okOf, readAll, tenant } from '../conformance/scratch.ts';
import type { Membership, Store } from '../store.ts';
import { databaseOf, open, serverVariable } from './engine-under-test.ts';

let primary: PostgresServer;
let standby: PostgresServer;
/** Between the two servers. */
let line: TcpProxy;
/** Between the store and whichever server has the database's address. */
let way: TcpProxy;
let directory: string;
let store: Store;

beforeEach(async () => {
  primary = await PostgresServer.start();
  process.env[serverVariable] = primary.url('postgres');
  line = await TcpProxy.start({ host: '127.0.0.1', port: primary.port });
  standby = await primary.standby(line.address);
  way = await TcpProxy.start({ host: '127.0.0.1', port: primary.port });
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-failover-'));
  const databaseUrl = primary.url(databaseOf(directory), way.address);
  // Shorter than the silence of the standby: a statement's time must not end the wait of its commit as if all were well.
  store = await open(directory, { databaseUrl, statementTimeoutMs: 900 });
});
afterEach(async () => {
  await store.close();
  await way.stop();
  await line.stop();
  await primary.stop();
  await standby.stop();
  await rm(directory, { recursive: true });
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_500; tries++) {
    if (await holds()) return;
    await sleep(10);
  }
  throw new Error('it never came to that');
}

const streams = ['a', 'b', 'c', 'd'];

/** Clients that send one input after another, each with a key and until it is acknowledged. */
class Load {
  readonly acknowledged = new Map<string, string[]>(streams.map((stream) => [stream, []]));
  #isOver = false;
  #driving: Promise<void>[] = [];

  async begin(): Promise<void> {
    await Promise.all(streams.map((stream) => create(store, stream)));
    this.#driving = streams.map((stream) => this.#drive(stream));
  }

  get count(): number {
    return [...this.acknowledged.values()].reduce((sum, ids) => sum + ids.length, 0);
  }

  async more(count: number): Promise<void> {
    const before = this.count;
    await until(() => this.count >= before + count);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#driving);
  }

  async #drive(stream: string): Promise<void> {
    while (!this.#isOver) {
      const event = draft();
      const append = appendOf(stream, { events: [event], request: { key: event.id, hash: 'h' } });
      for (let isDone = false; !isDone && !this.#isOver; ) {
        isDone = await store.append(append).then(
          ({ status }) => status === 'ok' || status === 'duplicate',
          () => sleep(20, false),
        );
        if (isDone) this.acknowledged.get(stream)?.push(event.id);
      }
    }
  }
}

/** What of the acknowledged is not in the log, and what is in it out of its order. */
async function lostOf(acknowledged: ReadonlyMap<string, string[]>): Promise<string[]> {
  const lost: string[] = [];
  for (const [stream, ids] of acknowledged) {
    const log = await readAll(store, stream);
    expect(log.map(({ seq }) => seq)).toEqual(log.map((_, n) => n + 1));
    const kept = log.map(({ id }) => id).filter((id) => ids.includes(id));
    expect(kept).toEqual(ids.filter((id) => kept.includes(id)));
    lost.push(...ids.filter((id) => !kept.includes(id)));
  }
  return lost;
}

/** Claims the stream once more, as the next engine would; its fence is then higher. */
async function claimAgain(member: Membership): Promise<number> {
  const claim = await store.claimStream(member.worker, 'driven');
  const fence = claim?.fence ?? Number.NaN;
  const { head } = okOf(await store.append(appendOf('driven', { fence })));
  expect(await store.release('driven', fence, head, null)).toBe('ok');
  return fence;
}

async function fenceNow(): Promise<number> {
  return (await store.stream(tenant, 'driven'))?.fence ?? Number.NaN;
}

/** The primary is dead for good; its address leads to the other one from now on. */
async function failOver(): Promise<void> {
  await primary.kill();
  await standby.promote();
  way.point({ host: '127.0.0.1', port: standby.port });
  way.cut();
}

const eventsNamed = 'SELECT id FROM events WHERE id = ANY($1)';

/** How many commits wait for the standby. */
async function waiting(): Promise<number> {
  const rows = await primary.query(
    'postgres',
    `SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'`,
  );
  return rows.length;
}

/** A standby that was there before may be asked for nothing while it only follows. */
async function answers(): Promise<void> {
  await until(() =>
    store.stream(tenant, 'driven').then(
      () => true,
      () => false,
    ),
  );
}

it('a synchronous standby that is promoted has every acknowledged input and every fence', async () => {
  await primary.waitForStandby();
  const load = new Load();
  await load.begin();
  await create(store, 'driven');
  const member = await store.join();
  await claimAgain(member);
  await load.more(40);
  line.swallow();
  // What is under way may still get its answer; after that nobody gets any.
  await sleep(300);
  const atSilence = load.count;
  const claiming = claimAgain(member).catch(() => Number.NaN);
  await sleep(1_200);
  expect(load.count).toBe(atSilence);
  const [{ fence }] = (await primary.query<{ fence: number }>(
    databaseOf(directory),
    `SELECT fence::int4 AS fence FROM streams WHERE stream = 'driven'`,
  )) as [{ fence: number }];
  await failOver();
  await until(() => member.lost.aborted);
  await claiming;
  await load.more(40);
  await load.end();
  expect(await lostOf(load.acknowledged)).toEqual([]);
  expect(await fenceNow()).toBeGreaterThanOrEqual(fence);
  const again = await store.join();
  await store.reapDead();
  expect(await claimAgain(again)).toBeGreaterThan(fence);
  expect(await store.append(appendOf('driven', { fence }))).toMatchObject({ status: 'fenced' });
});

it('what no standby has is not acknowledged either when the primary restarts meanwhile and shows it', async () => {
  await primary.waitForStandby();
  await create(store, 'a');
  line.swallow();
  const input = draft();
  const birth = draft();
  const sends = [
    appendOf('a', { events: [input], request: { key: 'k', hash: 'h' } }),
    appendOf('b', { events: [birth], request: { key: 'k', hash: 'h' }, create: true }),
  ];
  let acknowledged = 0;
  const send = (through: Store): Promise<void>[] =>
    sends.map((append) =>
      through.append(append).then(
        ({ status }) => {
          if (status === 'ok' || status === 'duplicate') acknowledged += 1;
        },
        () => undefined,
      ),
    );
  const sending = send(store);
  await until(async () => (await waiting()) === sends.length);
  way.swallow();
  await primary.kill();
  await primary.boot();
  // Recovery makes them rows like any other: another one sends them again, and who sent them first looks for them.
  const ids = [[input.id, birth.id]];
  expect(await primary.query(databaseOf(directory), eventsNamed, ids)).toHaveLength(2);
  const other = await open(directory);
  sending.push(...send(other));
  await until(async () => acknowledged > 0 || (await waiting()) === sends.length);
  way.heal();
  await sleep(1_000);
  expect(acknowledged).toBe(0);
  line.heal();
  await Promise.all(sending);
  expect(acknowledged).toBe(sending.length);
  expect(await standby.query(databaseOf(directory), eventsNamed, ids)).toHaveLength(2);
  await other.close();
});

it('an asynchronous standby that is promoted loses acknowledged inputs and takes fences back, and it is seen', async () => {
  const load = new Load();
  await load.begin();
  await create(store, 'driven');
  const member = await store.join();
  await claimAgain(member);
  await load.more(40);
  line.swallow();
  await load.more(40);
  const fence = await claimAgain(member);
  await load.end();
  await failOver();
  await answers();
  expect(await lostOf(load.acknowledged)).not.toEqual([]);
  expect(await fenceNow()).toBeLessThan(fence);
});
