/** Ownership: fences, expected sequences, claims, release, reaping and waking (L3). */
import { expect } from 'vitest';
import type { Cases } from './scratch.ts';
import { appendOf, claimed, create, draft, okOf, readAll, tenant } from './scratch.ts';

export const claimCases: Cases = {
  "an owner's append carries its fence; a stale one is refused and leaves no row": async ({ store }) => {
    const { fence } = await claimed(store, 's');
    okOf(await store.append(appendOf('s', { fence })));
    expect(await store.reapDead()).toBe(1);
    const [next] = await store.claim('wrkr_two', 1);
    const stale = await store.append(
      appendOf('s', { fence, request: { key: 'k', hash: 'h' }, outbox: [{ id: 'm', kind: 'x', body: {} }] }),
    );
    expect(stale).toEqual({ status: 'fenced', fence: next?.fence });
    expect(await store.pendingOutbox(10)).toEqual([]);
    expect((await readAll(store, 's')).map((event) => event.fence)).toEqual([null, fence]);
    okOf(await store.append(appendOf('s', { request: { key: 'k', hash: 'h' } })));
  },

  'one stream is claimed by name, due or not, by one of many who ask, and not where it is owned or erased':
    async ({ store }) => {
      await create(store, 's');
      const asked = await Promise.all(['a', 'b', 'c'].map((worker) => store.claimStream(worker, 's')));
      const given = asked.filter((claim) => claim !== null);
      expect(given).toEqual([{ ...tenant, stream: 's', fence: 1, head: 1 }]);
      okOf(await store.append(appendOf('s', { fence: 1 })));
      expect(await store.release('s', 1, 2, 5)).toBe('ok');
      expect(await store.claimStream('a', 's')).toMatchObject({ fence: 2, head: 2 });
      expect(await store.stream(tenant, 's')).toMatchObject({ owner: 'a', wakeAt: null });
      expect(await store.claimStream('a', 'nobody')).toBeNull();
      okOf(await store.append(appendOf('s', { eraseStream: true })));
      expect(await store.claimStream('a', 's')).toBeNull();
    },

  'an owner that has released may not append any more under its old fence': async ({ store }) => {
    const { fence, head } = await claimed(store, 's');
    expect(await store.release('s', fence, head, null)).toBe('ok');
    expect(await store.append(appendOf('s', { fence }))).toMatchObject({ status: 'fenced' });
    expect(await store.release('s', fence, head, null)).toBe('fenced');
  },

  'an interrupt that slips in after the fold makes the next intent move, not commit': async ({ store }) => {
    const { fence, head } = await claimed(store, 's');
    const [interrupt, intent] = await Promise.all([
      store.append(appendOf('s', { events: [draft({ type: 'user.interrupt' })] })),
      store.append(appendOf('s', { events: [draft({ type: 'intent' })], fence, expectedSeq: head })),
    ]);
    okOf(interrupt);
    expect(intent).toEqual({ status: 'moved', head: head + 1 });
    expect((await readAll(store, 's')).map(({ type }) => type)).toEqual(['test.happened', 'user.interrupt']);
  },

  'of two writers who folded the same head exactly one is written': async ({ store }) => {
    await create(store, 's');
    for (let head = 1; head <= 20; head++) {
      const results = await Promise.all(
        [1, 2, 3].map(() => store.append(appendOf('s', { expectedSeq: head }))),
      );
      expect(results.map(({ status }) => status).sort()).toEqual(['moved', 'moved', 'ok']);
    }
    expect(await readAll(store, 's')).toHaveLength(21);
  },

  'concurrent claims give each stream to one worker, each under a higher fence': async ({ store }) => {
    const streams = Array.from({ length: 30 }, (_, n) => `s${n}`);
    await Promise.all(streams.map((stream) => create(store, stream, { wakeAt: 0 })));
    const workers = ['a', 'b', 'c', 'd'];
    const claims = await Promise.all(workers.map((worker) => store.claim(worker, 10)));
    expect(claims.every((some) => some.length <= 10)).toBe(true);
    expect(
      claims
        .flat()
        .map(({ stream }) => stream)
        .sort(),
    ).toEqual([...streams].sort());
    for (const claim of claims.flat()) expect(claim).toMatchObject({ ...tenant, fence: 1, head: 1 });
    expect(await store.claim('e', 10)).toEqual([]);
    expect((await store.stream(tenant, 's0'))?.owner).toMatch(/^[abcd]$/);
    await store.reapDead();
    const [again] = await store.claim('e', 1);
    expect(again?.fence).toBe(3);
  },

  'a stream nobody woke is not claimed': async ({ store }) => {
    await create(store, 's');
    expect(await store.claim('a', 10)).toEqual([]);
    expect(await store.nextWakeAt()).toBeNull();
  },

  'a stream sleeps until its time, over a restart too': async (scratch) => {
    const wakeAt = scratch.clock.nowMs + 60_000;
    await create(scratch.store, 's', { wakeAt });
    await create(scratch.store, 't', { wakeAt: wakeAt + 1 });
    await scratch.reopen();
    expect(await scratch.store.nextWakeAt()).toBe(wakeAt);
    expect(await scratch.store.claim('a', 10)).toEqual([]);
    scratch.clock.nowMs = wakeAt;
    expect((await scratch.store.claim('a', 10)).map(({ stream }) => stream)).toEqual(['s']);
    expect(await scratch.store.nextWakeAt()).toBe(wakeAt + 1);
  },

  'the longest waiting stream is claimed first': async ({ store }) => {
    await create(store, 'late', { wakeAt: 3 });
    await create(store, 'early', { wakeAt: 1 });
    await create(store, 'middle', { wakeAt: 2 });
    const order: (string | undefined)[] = [];
    for (let n = 0; n < 3; n++) order.push((await store.claim('a', 1))[0]?.stream);
    expect(order).toEqual(['early', 'middle', 'late']);
  },

  'a later wake does not postpone an earlier one': async (scratch) => {
    const { store, clock } = scratch;
    await create(store, 's', { wakeAt: clock.nowMs });
    await store.append(appendOf('s', { wakeAt: clock.nowMs + 86_400_000 }));
    await store.append(appendOf('s'));
    expect(await store.nextWakeAt()).toBe(clock.nowMs);
  },

  'release is refused when an input came after the last fold, and then the owner still owns': async ({
    store,
  }) => {
    const { fence, head } = await claimed(store, 's');
    await store.append(appendOf('s', { wakeAt: 0 }));
    expect(await store.release('s', fence, head, null)).toBe('moved');
    expect(await store.claim('wrkr_two', 1)).toEqual([]);
    okOf(await store.append(appendOf('s', { fence, expectedSeq: head + 1 })));
    expect(await store.release('s', fence, head + 2, null)).toBe('ok');
    expect(await store.nextWakeAt()).toBeNull();
  },

  'a released stream wakes at the time its owner named': async (scratch) => {
    const { store, clock } = scratch;
    const { fence, head } = await claimed(store, 's');
    const wakeAt = clock.nowMs + 1_000;
    expect(await store.release('s', fence, head, wakeAt)).toBe('ok');
    expect(await store.nextWakeAt()).toBe(wakeAt);
    expect(await store.claim('b', 1)).toEqual([]);
    clock.nowMs = wakeAt;
    expect(await store.claim('b', 1)).toMatchObject([{ stream: 's', fence: fence + 1 }]);
  },

  'a release under a stale fence is refused': async ({ store }) => {
    const { fence, head } = await claimed(store, 's');
    await store.reapDead();
    await store.claim('wrkr_two', 1);
    expect(await store.release('s', fence, head, null)).toBe('fenced');
    expect(await store.release('unknown', 1, 0, null)).toBe('fenced');
    expect((await store.stream(tenant, 's'))?.owner).toBe('wrkr_two');
  },

  'reaping frees what dead workers owned, spares the living, and fences the dead': async ({ store }) => {
    const member = await store.join();
    const dead = await claimed(store, 'd', 'wrkr_dead');
    const living = await claimed(store, 'l', member.worker);
    expect(await store.reapDead()).toBe(1);
    expect(await store.reapDead()).toBe(0);
    okOf(await store.append(appendOf('l', { fence: living.fence })));
    expect(await store.append(appendOf('d', { fence: dead.fence }))).toMatchObject({
      status: 'fenced',
    });
    expect(await store.claim(member.worker, 10)).toMatchObject([{ stream: 'd', fence: dead.fence + 2 }]);
    await member.leave();
  },

  'who leaves is among the living no more, what it still owned is freed, and it is not told that it is lost':
    async ({ store }) => {
      const [one, two] = [await store.join({ role: 'engine' }), await store.join()];
      expect(one.worker).not.toBe(two.worker);
      const byName = (a: { worker: string }, b: { worker: string }): number => (a.worker < b.worker ? -1 : 1);
      expect((await store.workers()).sort(byName)).toEqual(
        [
          { worker: one.worker, info: { role: 'engine' } },
          { worker: two.worker, info: {} },
        ].sort(byName),
      );
      const { fence } = await claimed(store, 's', one.worker);
      await one.leave();
      await one.leave();
      expect(await store.workers()).toEqual([{ worker: two.worker, info: {} }]);
      expect(await store.reapDead()).toBe(1);
      expect(await store.append(appendOf('s', { fence }))).toMatchObject({ status: 'fenced' });
      expect([one.lost.aborted, two.lost.aborted]).toEqual([false, false]);
      await two.leave();
    },

  'a restart kills all workers of the store: their names are gone and what they owned is free': async (
    scratch,
  ) => {
    const { worker } = await scratch.store.join();
    const { fence } = await claimed(scratch.store, 's', worker);
    await scratch.reopen();
    expect(await scratch.store.workers()).toEqual([]);
    expect(await scratch.store.reapDead()).toBe(1);
    expect(await scratch.store.append(appendOf('s', { fence }))).toMatchObject({ status: 'fenced' });
  },

  'of many who reap at once exactly one frees a stream': async ({ store }) => {
    const { fence } = await claimed(store, 's', 'wrkr_dead');
    const freed = await Promise.all(Array.from({ length: 8 }, () => store.reapDead()));
    expect(freed.reduce((sum, count) => sum + count, 0)).toBe(1);
    expect((await store.stream(tenant, 's'))?.fence).toBe(fence + 1);
  },
};
