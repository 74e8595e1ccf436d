/**
 * 10,000 timers that fall due at one moment, two workers that compete for them, a third that died over some, and clocks that
 * disagree by five minutes. A timer is what it is to a store: the `wakeAt` of a row, and an append under the fence of whoever
 * claimed it (L3).
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { appendOf, draft, okOf, readAll } from '../src/store/conformance/scratch.ts';
import * as postgres from '../src/store/postgres/engine-under-test.ts';
import * as sqlite from '../src/store/sqlite/engine-under-test.ts';
import type { Claim, Store } from '../src/store/store.ts';
import { PostgresServer } from './peers/postgres-server.ts';

const patience = { timeout: 240_000 };
const timers = 10_000;
const atOnce = 64;
const dueMs = Date.parse('2026-03-01T12:00:00.000Z');
const fiveMinutesMs = 300_000;

let directory: string;
let server: PostgresServer;
const stores: Store[] = [];

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-timers-'));
  server = await PostgresServer.start();
  process.env[postgres.serverVariable] = server.url('postgres');
}, 60_000);

afterAll(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
}, 30_000);

async function set(store: Store, names: string[], wakeAt: number): Promise<void> {
  for (let at = 0; at < names.length; at += 500) {
    const some = names.slice(at, at + 500);
    const set = some.map((name) => store.append(appendOf(name, { create: true, wakeAt })));
    for (const result of await Promise.all(set)) okOf(result);
  }
}

/** Fires one timer as a driver does: under its fence and on what it folded, then it lets the session sleep. */
async function fire(store: Store, { stream, fence, head }: Claim): Promise<boolean> {
  const event = draft({ type: 'timer.fired' });
  const fired = await store.append(appendOf(stream, { fence, expectedSeq: head, events: [event] }));
  if (fired.status === 'fenced') return false;
  okOf(fired);
  expect(await store.release(stream, fence, head + 1, null)).toBe('ok');
  return true;
}

/** Claims and fires until there is nothing due by its clock; how many it fired. */
async function work(store: Store, isAllDone: () => Promise<boolean>): Promise<number> {
  const { worker, leave } = await store.join();
  await store.reapDead();
  let fired = 0;
  for (;;) {
    const claims = await store.claim(worker, atOnce);
    if (claims.length === 0 && (await isAllDone())) break;
    fired += (await Promise.all(claims.map((claim) => fire(store, claim)))).filter(Boolean).length;
  }
  await leave();
  return fired;
}

async function firedOf(store: Store, names: string[]): Promise<Map<number, number>> {
  const counts = new Map<number, number>();
  for (let at = 0; at < names.length; at += 500) {
    const logs = await Promise.all(names.slice(at, at + 500).map((name) => readAll(store, name)));
    for (const log of logs) {
      const count = log.filter(({ type }) => type === 'timer.fired').length;
      counts.set(count, (counts.get(count) ?? 0) + 1);
    }
  }
  return counts;
}

const named = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}${n}`);
const once = (count: number) => new Map([[1, count]]);
const never = (count: number) => new Map([[0, count]]);

async function opened(store: Promise<Store>): Promise<Store> {
  stores.push(await store);
  return store;
}

/** `one` and `other` are the stores that the two workers see. */
async function expectEachOnce(one: Store, other: Store): Promise<void> {
  const [due, soon, later] = [named('due', timers), named('soon', 50), named('later', 50)];
  await set(one, due, dueMs);
  await set(one, soon, dueMs + fiveMinutesMs / 2);
  await set(one, later, dueMs + 2 * fiveMinutesMs);
  // Dies over what it claimed, without a word.
  expect(await one.claim('wrkr_dead', 100)).toHaveLength(100);
  // Owned rows do not count as waiting: who still fires something looks again itself.
  const isAllDone = async () => (await one.nextWakeAt()) === dueMs + 2 * fiveMinutesMs;
  const fired = await Promise.all([work(one, isAllDone), work(other, isAllDone)]);
  expect(fired.reduce((sum, count) => sum + count, 0)).toBe(timers + soon.length);
  expect(Math.min(...fired)).toBeGreaterThan(0);
  expect(await firedOf(one, due)).toEqual(once(timers));
  // Early by as much as one clock is wrong, and still once; what is due on no clock waits.
  expect(await firedOf(one, soon)).toEqual(once(soon.length));
  expect(await firedOf(one, later)).toEqual(never(later.length));
}

it(
  '10,000 timers due at once fire once each, on Postgres, for two engines five minutes apart',
  patience,
  async () => {
    const place = path.join(directory, 'postgres-timers');
    await mkdir(place);
    const right = await opened(postgres.open(place, { now: () => dueMs }));
    const ahead = await opened(postgres.open(place, { now: () => dueMs + fiveMinutesMs }));
    await expectEachOnce(right, ahead);
  },
);

it(
  '10,000 timers due at once fire once each, on SQLite, for two workers whose clock jumps',
  patience,
  async () => {
    let looks = 0;
    // One process, one clock: five minutes ahead at every third look.
    const now = () => dueMs + (looks++ % 3 === 0 ? fiveMinutesMs : 0);
    const place = path.join(directory, 'sqlite-timers');
    await mkdir(place);
    const store = await opened(sqlite.open(place, { now }));
    await expectEachOnce(store, store);
  },
);
