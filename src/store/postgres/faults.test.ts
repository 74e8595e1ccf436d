/** The server dies, replies get lost, notifications get lost: nothing acknowledged is, and nothing happens twice (L2, L8). */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import { TcpProxy } from '../../../test/peers/tcp-proxy.ts';
import { appendOf, claimed, create, draft, okOf, put, readAll, tenant } from '../conformance/scratch.ts';
import type { Store } from '../store.ts';
import { databaseOf, discard, open, serverVariable } from './engine-under-test.ts';

let server: PostgresServer;
let proxy: TcpProxy;
let directory: string;
let store: Store;
const stores: Store[] = [];

beforeAll(async () => {
  server = await PostgresServer.start();
  process.env[serverVariable] = server.url('postgres');
});
afterAll(() => server.stop());

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-faults-'));
  proxy = await TcpProxy.start({ host: '127.0.0.1', port: server.port });
  await (await open(directory)).close();
  store = await openThrough(proxy);
});
afterEach(async () => {
  await proxy.stop();
  await Promise.all(stores.splice(0).map((one) => one.close()));
  await discard(directory);
  await rm(directory, { recursive: true });
});

async function openThrough(network: TcpProxy | null, options: object = {}): Promise<Store> {
  const through = network === null ? {} : { databaseUrl: server.url(databaseOf(directory), network.address) };
  const opened = await open(directory, { ...through, ...options });
  stores.push(opened);
  return opened;
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if (await holds()) return;
    await sleep(10);
  }
  throw new Error('it never came to that');
}

/** A request of the group commit, as it travels. */
const groupStatement = 'append locked';

it('an append whose reply is lost is written once and answered as written, fenced, keyed or bare', async () => {
  const { fence, head } = await claimed(store, 's');
  const reserve = { op: 'reserve', id: 'mcall_1', amountMicros: 5 } as const;
  const appends = [
    appendOf('s', { fence, expectedSeq: head }),
    appendOf('s', { request: { key: 'k', hash: 'h' }, events: [draft(), draft()] }),
    appendOf('s', { reservation: reserve, outbox: [{ id: 'm', kind: 'x', body: {} }] }),
    appendOf('s', { reservation: { op: 'settle', id: 'mcall_1', costMicros: 3 } }),
  ];
  for (const append of appends) {
    proxy.loseReplyTo(groupStatement);
    const firstSeq = (await readAll(store, 's')).length + 1;
    expect(okOf(await store.append(append))).toMatchObject({
      firstSeq,
      head: firstSeq + append.events.length - 1,
    });
  }
  expect(proxy.lostReplies).toBe(appends.length);
  expect((await readAll(store, 's')).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
  expect((await store.stream(tenant, 's'))?.summary).toMatchObject({ count: 6 });
  expect(await store.pendingOutbox(10)).toHaveLength(1);
  expect(await store.reservation(tenant, 'mcall_1')).toMatchObject({ costMicros: 3 });
});

it('a creation, a resource and a deletion whose COMMIT is answered to nobody happen once', async () => {
  proxy.loseReplyTo('COMMIT');
  await create(store, 's');
  proxy.loseReplyTo('COMMIT');
  okOf(await store.append(appendOf('s', { resources: [put('agent', 'a', { uniqueName: 'n' })] })));
  proxy.loseReplyTo('COMMIT');
  okOf(await store.append(appendOf('s', { eraseStream: true })));
  expect(proxy.lostReplies).toBe(3);
  expect(await readAll(store, 's')).toHaveLength(3);
  expect(await store.resource(tenant, 'agent', 'a')).toMatchObject({ version: 1 });
  expect(await store.stream(tenant, 's')).toMatchObject({ erased: true, head: 3 });
});

it('a whole batch whose reply is lost is answered as written, each append with its own places', async () => {
  const streams = Array.from({ length: 20 }, (_, n) => `s${n}`);
  await Promise.all(streams.map((stream) => create(store, stream)));
  proxy.loseReplyTo(groupStatement);
  const results = await Promise.all(
    streams.flatMap((stream) => [store.append(appendOf(stream)), store.append(appendOf(stream))]),
  );
  expect(proxy.lostReplies).toBe(1);
  expect(results.map((result) => okOf(result).firstSeq)).toEqual(streams.flatMap(() => [2, 3]));
});

it('connections that are cut in the middle of work make no append fail that can be found', async () => {
  await create(store, 's');
  const appends = Array.from({ length: 30 }, async () => {
    for (let n = 0; n < 5; n++) okOf(await store.append(appendOf('s')));
  });
  for (let n = 0; n < 5; n++) {
    await sleep(5);
    proxy.cut('scriptorium work');
  }
  await Promise.all(appends);
  expect(await readAll(store, 's')).toHaveLength(151);
});

it('a network that swallows everything makes calls end, not hang, and heals without a duplicate', async () => {
  await create(store, 's');
  const slow = await openThrough(proxy, { statementTimeoutMs: 500, connectTimeoutMs: 500 });
  proxy.swallow();
  const request = { key: 'k', hash: 'h' };
  const events = [draft()];
  await expect(slow.read('s', 0, 1)).rejects.toMatchObject({ name: 'StoreUnavailable' });
  const sent = slow.append(appendOf('s', { request, events })).catch((error: Error) => error.name);
  await sleep(500);
  proxy.heal();
  const ending = await sent;
  if (typeof ending === 'string') expect(ending).toBe('StoreUnavailable');
  else expect(ending).toMatchObject({ status: 'ok' });
  await until(async () => {
    const again = await slow.append(appendOf('s', { request, events })).catch(() => null);
    if (again !== null) expect(again).toMatchObject({ firstSeq: 2, head: 2 });
    return again !== null;
  });
  expect(await readAll(slow, 's')).toHaveLength(2);
});

it('kill -9 of the server under load, again and again, loses nothing acknowledged and writes nothing twice', async () => {
  const streams = ['a', 'b', 'c', 'd', 'e', 'f'];
  await Promise.all(streams.map((stream) => create(store, stream)));
  const acknowledged = new Map<string, string[]>(streams.map((stream) => [stream, []]));
  let isOver = false;
  const drive = async (stream: string): Promise<void> => {
    while (!isOver) {
      const event = draft();
      const append = appendOf(stream, { events: [event], request: { key: event.id, hash: 'h' } });
      for (let isDone = false; !isDone; ) {
        isDone = await store.append(append).then(
          ({ status }) => status === 'ok' || status === 'duplicate',
          () => sleep(20, false),
        );
      }
      acknowledged.get(stream)?.push(event.id);
    }
  };
  const driving = streams.map(drive);
  for (let round = 1; round <= 3; round++) {
    const before = acknowledged.get('a')?.length ?? 0;
    await until(() => (acknowledged.get('a')?.length ?? 0) >= before + 20);
    await server.kill();
    await server.boot();
  }
  isOver = true;
  await Promise.all(driving);
  for (const stream of streams) {
    const log = await readAll(store, stream);
    expect(log.map(({ seq }) => seq)).toEqual(log.map((_, n) => n + 1));
    expect(log.slice(1).map(({ id }) => id)).toEqual(acknowledged.get(stream));
    expect((await store.stream(tenant, stream))?.summary).toMatchObject({ count: log.length });
  }
}, 60_000);

it('a commit of another process is heard of although its notification is lost', async () => {
  const other = await openThrough(null);
  const heard = new Map<string, number>();
  store.onAppend((touched) => {
    for (const { stream, head } of touched) heard.set(stream, head);
  });
  await create(other, 's');
  await until(() => heard.get('s') === 1);
  proxy.swallow('scriptorium notifications');
  okOf(await other.append(appendOf('s')));
  await until(() => heard.get('s') === 2);
  expect((await store.read('s', 1, 1)).map(({ seq }) => seq)).toEqual([2]);
});

it("says of an owner's own appends that they are nobody else's work, notified or found, and of an input that it is", async () => {
  const other = await openThrough(null);
  const heard = new Map<string, boolean>();
  store.onAppend((touched) => {
    for (const { stream, head, isOwners } of touched) heard.set(`${stream} ${head}`, isOwners === true);
  });
  await create(other, 's');
  await until(() => heard.get('s 1') === false);
  const claim = await other.claimStream((await other.join()).worker, 's');
  const owned = { fence: claim?.fence ?? 0 };
  okOf(await other.append(appendOf('s', owned)));
  await until(() => heard.get('s 2') === true);
  proxy.swallow('scriptorium notifications');
  // A poll that finds the creation as well knows less.
  await sleep(1_500);
  okOf(await other.append(appendOf('s', owned)));
  await until(() => heard.get('s 3') === true);
  // Together: one of them is an input.
  await Promise.all(
    [other.append(appendOf('s', owned)), other.append(appendOf('s'))].map((one) => one.then(okOf)),
  );
  await until(() => heard.get('s 5') === false);
});

it('a listener whose connection is cut listens again, and hears what was committed meanwhile', async () => {
  const other = await openThrough(null);
  const heard: number[] = [];
  store.onAppend((touched) => heard.push(...touched.map(({ head }) => head)));
  await create(other, 's');
  await until(() => heard.includes(1));
  for (let head = 2; head < 4; head++) {
    proxy.cut('scriptorium notifications');
    okOf(await other.append(appendOf('s')));
    await until(() => heard.includes(head));
  }
});

it('a transaction that began early and commits late is heard of, although later ones were told before', async () => {
  const heard: string[] = [];
  await create(store, 'early');
  store.onAppend((touched) => heard.push(...touched.map(({ stream, head }) => `${stream} ${head}`)));
  const late = new pg.Client({ connectionString: server.url(databaseOf(directory)) });
  await late.connect();
  await late.query('BEGIN');
  await late.query(`INSERT INTO events (organization, project, stream, seq, id, type, schema_version, time, actor,
      audience, public_commitment, leaf_hash)
    SELECT organization, project, stream, 2, 'late', type, 1, time, actor, audience, public_commitment, leaf_hash
    FROM events WHERE stream = 'early'`);
  const other = await openThrough(null);
  await create(other, 'later');
  await until(() => heard.includes('later 1'));
  // Polls go by that cannot see it yet.
  await sleep(1_500);
  expect(heard).not.toContain('early 2');
  await late.query('COMMIT');
  await late.end();
  await until(() => heard.includes('early 2'));
});

it('two processes that write to the same streams lose no append, leave no gap and never wait for each other', async () => {
  const other = await openThrough(null);
  const streams = Array.from({ length: 8 }, (_, n) => `s${n}`);
  await Promise.all(streams.map((stream) => create(store, stream)));
  const rounds = Array.from({ length: 40 }, (_, n) => n);
  await Promise.all(
    [store, other].map(async (one, side) => {
      for (const _ of rounds) {
        const order = side === 0 ? streams : streams.toReversed();
        await Promise.all(order.map(async (stream) => okOf(await one.append(appendOf(stream)))));
      }
    }),
  );
  for (const stream of streams) {
    const log = await readAll(store, stream);
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: 81 }, (_, n) => n + 1));
    expect((await other.stream(tenant, stream))?.summary).toMatchObject({ count: 81 });
  }
});

it('of two processes that send the same request at once exactly one writes it', async () => {
  const other = await openThrough(null);
  await create(store, 's');
  for (let n = 0; n < 20; n++) {
    const append = appendOf('s', { request: { key: `k${n}`, hash: 'h' } });
    const both = await Promise.all([store.append(append), other.append(append)]);
    expect(both.map(({ status }) => status).sort()).toEqual(['duplicate', 'ok']);
  }
  expect(await readAll(store, 's')).toHaveLength(21);
});
