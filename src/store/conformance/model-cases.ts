/**
 * Random histories against a model of the contract that fits on a page: whatever sequence of calls fast-check finds,
 * the store ends each as the model does, and both hold the same state, also over restarts.
 */
import fc from 'fast-check';
import { expect } from 'vitest';
import type { Membership, Store } from '../store.ts';
import type { Cases, Scratch } from './scratch.ts';
import { appendOf, draft, readAll, tenant } from './scratch.ts';

type ModelStream = {
  ids: string[];
  fence: number;
  owner: string | null;
  wakeAt: number | null;
  requests: Map<string, { hash: string; firstSeq: number; head: number }>;
  erased: boolean;
};

type Model = Map<string, ModelStream>;

/** Who of w1 and w2 is a member now, and under which name. The other claims under a name that never joined. */
type Members = Map<string, Membership>;

/** One call. Numbers are offsets from the truth, so that right, stale and early values all come up. */
type Step =
  | {
      op: 'append';
      stream: string;
      /** Create where there is no stream and only there, or the other way round. */
      createsRightly: boolean;
      size: number;
      fenceOff: number | null;
      seqOff: number | null;
      request: { key: string; hash: string } | null;
      wakeAfterMs: number | null;
      erase: boolean;
    }
  | { op: 'claim'; worker: string; limit: number }
  | { op: 'release'; stream: string; fenceOff: number; headOff: number; wakeAfterMs: number | null }
  | { op: 'join'; worker: string }
  | { op: 'leave'; worker: string }
  | { op: 'reap' }
  | { op: 'tick'; ms: number }
  | { op: 'reopen' };

const streamName = fc.constantFrom('s1', 's2', 's3');
const workerName = fc.constantFrom('w1', 'w2');
const offset = fc.constantFrom(0, 0, 0, 0, -1, 1);
const requestOf = fc.record({
  key: fc.constantFrom('k1', 'k2', 'k3', 'k4'),
  hash: fc.constantFrom('h1', 'h1', 'h1', 'h2'),
});
const wakeAfter = fc.option(fc.constantFrom(-5, 0, 10, 100));

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('append' as const),
      stream: streamName,
      createsRightly: fc.constantFrom(true, true, true, true, true, false),
      size: fc.integer({ min: 1, max: 3 }),
      fenceOff: fc.option(offset, { freq: 1 }),
      seqOff: fc.option(offset, { freq: 1 }),
      request: fc.option(requestOf, { freq: 1 }),
      wakeAfterMs: wakeAfter,
      erase: fc.integer({ min: 0, max: 14 }).map((n) => n === 14),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('claim' as const),
      worker: workerName,
      limit: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('release' as const),
      stream: streamName,
      fenceOff: offset,
      headOff: offset,
      wakeAfterMs: wakeAfter,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom('join' as const, 'leave' as const), worker: workerName }),
  },
  { weight: 1, arbitrary: fc.constant({ op: 'reap' as const }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('tick' as const), ms: fc.constantFrom(-50, 10, 60) }) },
  { weight: 1, arbitrary: fc.constant({ op: 'reopen' as const }) },
);

function earlier(one: number | null, other: number): number {
  return one === null ? other : Math.min(one, other);
}

async function stepAppend(
  scratch: Scratch,
  model: Model,
  one: Extract<Step, { op: 'append' }>,
): Promise<void> {
  const row = model.get(one.stream);
  const head = row?.ids.length ?? 0;
  const events = Array.from({ length: one.size }, () => draft());
  const create = one.createsRightly === (row === undefined);
  const fence = one.fenceOff === null ? null : (row?.fence ?? 0) + one.fenceOff;
  const expectedSeq = one.seqOff === null ? null : head + one.seqOff;
  const wakeAt = one.wakeAfterMs === null ? null : scratch.clock.nowMs + one.wakeAfterMs;
  const result = await scratch.store.append(
    appendOf(one.stream, {
      create,
      events,
      eraseStream: one.erase,
      ...(fence === null ? {} : { fence }),
      ...(expectedSeq === null ? {} : { expectedSeq }),
      ...(one.request === null ? {} : { request: one.request }),
      ...(wakeAt === null ? {} : { wakeAt }),
    }),
  );
  const expected = expectedEnding(row, one, { create, head, fence, expectedSeq });
  expect(result).toMatchObject(expected);
  if (expected.status !== 'ok') return;
  const next: ModelStream = row ?? {
    ids: [],
    fence: 0,
    owner: null,
    wakeAt: null,
    requests: new Map(),
    erased: false,
  };
  model.set(one.stream, next);
  next.ids.push(...events.map(({ id }) => id));
  if (wakeAt !== null) next.wakeAt = earlier(next.wakeAt, wakeAt);
  if (one.request !== null) {
    next.requests.set(one.request.key, { hash: one.request.hash, firstSeq: head + 1, head: next.ids.length });
  }
  if (one.erase) Object.assign(next, { erased: true, owner: null, wakeAt: null, fence: next.fence + 1 });
}

function expectedEnding(
  row: ModelStream | undefined,
  one: Extract<Step, { op: 'append' }>,
  {
    create,
    head,
    fence,
    expectedSeq,
  }: { create: boolean; head: number; fence: number | null; expectedSeq: number | null },
): { status: string; [member: string]: unknown } {
  const known = one.request === null ? undefined : row?.requests.get(one.request.key);
  if (known !== undefined && known.hash === one.request?.hash) {
    return { status: 'duplicate', firstSeq: known.firstSeq, head: known.head };
  }
  if (known !== undefined) return { status: 'conflict', reason: 'request' };
  if (create && row !== undefined) return { status: 'conflict', reason: 'exists' };
  if (!create && (row === undefined || row.erased)) return { status: 'conflict', reason: 'missing' };
  if (row !== undefined && fence !== null && (row.owner === null || row.fence !== fence)) {
    return { status: 'fenced', fence: row.fence };
  }
  if (row !== undefined && expectedSeq !== null && expectedSeq !== head) return { status: 'moved', head };
  return { status: 'ok', firstSeq: head + 1, head: head + one.size };
}

async function stepClaim(
  scratch: Scratch,
  model: Model,
  one: Extract<Step, { op: 'claim' }>,
  members: Members,
): Promise<void> {
  const worker = members.get(one.worker)?.worker ?? one.worker;
  const due = [...model].filter(
    ([, row]) => row.owner === null && row.wakeAt !== null && row.wakeAt <= scratch.clock.nowMs,
  );
  const claims = await scratch.store.claim(worker, one.limit);
  expect(claims).toHaveLength(Math.min(one.limit, due.length));
  const taken = new Set(claims.map(({ stream }) => stream));
  const lastTaken = Math.max(...claims.map(({ stream }) => model.get(stream)?.wakeAt ?? Number.NaN));
  for (const [stream, row] of due) {
    if (!taken.has(stream)) {
      expect(row.wakeAt).toBeGreaterThanOrEqual(lastTaken);
      continue;
    }
    Object.assign(row, { owner: worker, fence: row.fence + 1, wakeAt: null });
    expect(claims.find((claim) => claim.stream === stream)).toMatchObject({
      fence: row.fence,
      head: row.ids.length,
    });
  }
}

async function stepRelease(
  scratch: Scratch,
  model: Model,
  one: Extract<Step, { op: 'release' }>,
): Promise<void> {
  const row = model.get(one.stream);
  const fence = (row?.fence ?? 0) + one.fenceOff;
  const seenHead = (row?.ids.length ?? 0) + one.headOff;
  const wakeAt = one.wakeAfterMs === null ? null : scratch.clock.nowMs + one.wakeAfterMs;
  const ending = await scratch.store.release(one.stream, fence, seenHead, wakeAt);
  if (row === undefined || row.owner === null || one.fenceOff !== 0) return expect(ending).toBe('fenced');
  if (one.headOff !== 0) return expect(ending).toBe('moved');
  expect(ending).toBe('ok');
  Object.assign(row, { owner: null, wakeAt });
}

async function stepMembers(
  scratch: Scratch,
  one: Extract<Step, { op: 'join' | 'leave' }>,
  members: Members,
): Promise<void> {
  const member = members.get(one.worker);
  if (one.op === 'join' && member === undefined) members.set(one.worker, await scratch.store.join());
  if (one.op === 'leave' && member !== undefined) {
    members.delete(one.worker);
    await member.leave();
  }
}

async function stepReap(scratch: Scratch, model: Model, members: Members): Promise<void> {
  const living = [...members.values()].map(({ worker }) => worker);
  const dead = [...model.values()].filter(({ owner }) => owner !== null && !living.includes(owner));
  expect(await scratch.store.reapDead()).toBe(dead.length);
  for (const row of dead) {
    Object.assign(row, {
      owner: null,
      fence: row.fence + 1,
      wakeAt: earlier(row.wakeAt, scratch.clock.nowMs),
    });
  }
}

async function takeStep(scratch: Scratch, model: Model, one: Step, members: Members): Promise<void> {
  switch (one.op) {
    case 'append':
      return stepAppend(scratch, model, one);
    case 'claim':
      return stepClaim(scratch, model, one, members);
    case 'release':
      return stepRelease(scratch, model, one);
    case 'join':
    case 'leave':
      return stepMembers(scratch, one, members);
    case 'reap':
      return stepReap(scratch, model, members);
    case 'tick':
      scratch.clock.nowMs += one.ms;
      return;
    case 'reopen':
      members.clear();
      await scratch.reopen();
  }
}

async function expectSameState(store: Store, model: Model): Promise<void> {
  for (const [stream, { ids, fence, owner, wakeAt, erased }] of model) {
    const row = await store.stream(tenant, stream);
    expect(row).toMatchObject({ head: ids.length, fence, owner, wakeAt, erased });
    const log = await readAll(store, stream);
    expect(log.map(({ id }) => id)).toEqual(ids);
    expect(log.map(({ seq }) => seq)).toEqual(ids.map((_, n) => n + 1));
    const times = log.map(({ time }) => time);
    expect(times).toEqual([...times].sort());
    if (!erased) expect(row?.summary?.count).toBe(ids.length);
  }
  const waking = [...model.values()].flatMap(({ owner, wakeAt }) =>
    owner === null && wakeAt !== null ? [wakeAt] : [],
  );
  expect(await store.nextWakeAt()).toBe(waking.length === 0 ? null : Math.min(...waking));
}

export const modelCases: Cases = {
  'any history of calls ends as the model says, and so does what is stored': async (scratch) => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        // One directory for all runs: each has streams of its own, and sleeps earlier ones off first.
        const suffix = `-${run++}`;
        const model: Model = new Map();
        const members: Members = new Map();
        await quiesce(scratch);
        for (const one of steps) {
          const renamed = 'stream' in one ? { ...one, stream: one.stream + suffix } : one;
          await takeStep(scratch, model, renamed, members);
        }
        await expectSameState(scratch.store, model);
        for (const member of members.values()) await member.leave();
      }),
      { numRuns: 40 },
    );
  },
};

/** Puts every stream of an earlier run to sleep for good. */
async function quiesce({ store, clock }: Scratch): Promise<void> {
  await store.reapDead();
  const nowMs = clock.nowMs;
  clock.nowMs = Number.MAX_SAFE_INTEGER / 2;
  const claims = await store.claim('quiesce', 1_000);
  clock.nowMs = nowMs;
  for (const { stream, fence, head } of claims) await store.release(stream, fence, head, null);
}
