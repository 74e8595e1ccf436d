/** The log itself: order, time, payloads, restarts, and what listeners hear (L1, L2). */
import { expect } from 'vitest';
import type { JsonObject } from '../../protocol/json.ts';
import { summarize } from './count-summary.ts';
import type { Cases } from './scratch.ts';
import { appendOf, create, draft, okOf, put, readAll, setting, stranger, tenant } from './scratch.ts';

const awkward: JsonObject = {
  z: 1,
  a: { '10': 'ten', '2': 'two', b: [null, true, -0.5, 1e21, ''] },
  text: '"\\\u0000\u2028 \u{1F5A4} \uD800 lone',
  ['__proto__']: { polluted: false },
  constructor: 'x',
};

export const logCases: Cases = {
  'an append is read back as it was written, with its place, time and fence': async ({ store }) => {
    const event = draft({
      thread: 'sthr_1',
      turn: 'turn_1',
      call: 'mcall_1',
      causation: 'sevt_0',
      audience: 'operator',
      public: awkward,
      private: { items: [awkward] },
    });
    await create(store, 's', { events: [event] });
    const [read] = await readAll(store, 's');
    expect(read).toMatchObject({ ...tenant, ...event, stream: 's', seq: 1, schemaVersion: 1, fence: null });
    expect(read?.time).toBe('2026-03-01T12:00:00.000Z');
    expect(await store.readById('s', event.id)).toEqual(read);
    expect(await store.readById('s', 'sevt_other')).toBeNull();
  },

  'members of a payload come back in the order they were given (prompts stay byte-identical, L7)': async ({
    store,
  }) => {
    const text = '{"zebra":1,"apple":{"y":2,"x":[{"b":1,"a":2}]}}';
    await create(store, 's', { events: [draft({ private: JSON.parse(text) as JsonObject })] });
    expect(JSON.stringify((await readAll(store, 's'))[0]?.private)).toBe(text);
  },

  'what the caller changes after append returned does not reach the log': async ({ store }) => {
    const event = draft({ public: { text: 'before' } });
    const appended = store.append(appendOf('s', { create: true, events: [event] }));
    event.public.text = 'after';
    await appended;
    expect((await readAll(store, 's'))[0]?.public).toEqual({ text: 'before' });
  },

  'payloads of several megabytes survive a restart': async (scratch) => {
    const text = 'é'.repeat(3_000_000);
    await create(scratch.store, 's', { events: [draft({ public: { text }, private: { text } }), draft()] });
    const [first] = await readAll(await scratch.reopen(), 's');
    expect(first?.public.text === text && first?.private?.text === text).toBe(true);
  },

  'concurrent appends to one stream take gap-free places and each says which are its own': async ({
    store,
  }) => {
    await create(store, 's');
    const batches = Array.from({ length: 50 }, (_, n) => Array.from({ length: (n % 3) + 1 }, () => draft()));
    const results = await Promise.all(batches.map((events) => store.append(appendOf('s', { events }))));
    const log = await readAll(store, 's');
    expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: log.length }, (_, n) => n + 1));
    for (const [n, events] of batches.entries()) {
      const { firstSeq, head } = okOf(results[n] ?? { status: 'moved', head: 0 });
      expect(log.slice(firstSeq - 1, head).map(({ id }) => id)).toEqual(events.map(({ id }) => id));
    }
  },

  'read returns what comes after a cursor, at most so many': async ({ store }) => {
    await create(store, 's', { events: Array.from({ length: 7 }, () => draft()) });
    expect((await store.read('s', 2, 3)).map(({ seq }) => seq)).toEqual([3, 4, 5]);
    expect(await store.read('s', 7, 3)).toEqual([]);
    expect(await store.read('nothing', 0, 3)).toEqual([]);
  },

  'a stream is created once, and an unknown one takes no events': async ({ store }) => {
    await create(store, 's');
    expect(await store.append(appendOf('s', { create: true }))).toMatchObject({
      status: 'conflict',
      reason: 'exists',
    });
    expect(await store.append(appendOf('t'))).toMatchObject({ status: 'conflict', reason: 'missing' });
    expect(await readAll(store, 't')).toEqual([]);
    expect(await readAll(store, 's')).toHaveLength(1);
  },

  'of many concurrent creations exactly one wins': async ({ store }) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, () => store.append(appendOf('s', { create: true }))),
    );
    expect(results.filter(({ status }) => status === 'ok')).toHaveLength(1);
    expect(await readAll(store, 's')).toHaveLength(1);
  },

  "another tenant can neither see nor extend a stream, and learns only that it can't have the name": async ({
    store,
  }) => {
    await create(store, 's', { request: { key: 'k', hash: 'h' } });
    const request = { key: 'k', hash: 'h' };
    expect(await store.append(appendOf('s', { ...stranger, request }))).toMatchObject({ reason: 'missing' });
    expect(await store.append(appendOf('s', { ...stranger, create: true }))).toMatchObject({
      reason: 'exists',
    });
    expect(await store.stream(stranger, 's')).toBeNull();
    expect(await readAll(store, 's')).toHaveLength(1);
  },

  'time never decreases along a stream when the clock steps back, also over a restart': async (scratch) => {
    await create(scratch.store, 's');
    scratch.clock.nowMs -= 3_600_000;
    await scratch.store.append(appendOf('s'));
    await scratch.reopen();
    await scratch.store.append(appendOf('s'));
    scratch.clock.nowMs += 7_200_000;
    await scratch.store.append(appendOf('s'));
    const times = (await readAll(scratch.store, 's')).map(({ time }) => time);
    expect(times).toEqual([...times].sort());
    expect(new Set(times).size).toBe(2);
    for (const time of times) expect(time).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  },

  'the summary equals the reduction of the log as it is read (L1)': async (scratch) => {
    await create(scratch.store, 's', {
      events: [setting({ title: 'one' }), draft({ private: { mark: 'x' } })],
    });
    await scratch.store.append(appendOf('s', { events: [draft({ public: awkward, private: awkward })] }));
    await scratch.reopen();
    await scratch.store.append(appendOf('s', { events: [setting({ status: 'running' })] }));
    const log = await readAll(scratch.store, 's');
    const reduced = log.reduce<JsonObject | null>((summary, event) => summarize(summary, event), null);
    expect((await scratch.store.stream(tenant, 's'))?.summary).toEqual(reduced);
  },

  'an append that fails for a bug changes nothing and leaves its neighbours alone': async ({ store }) => {
    await create(store, 's');
    const twice = draft();
    const results = await Promise.allSettled([
      store.append(appendOf('s', { events: [draft()] })),
      store.append(appendOf('s', { events: [draft(), draft({ type: 'test.summary_fails' })] })),
      store.append(appendOf('t', { create: true, events: [twice, twice] })),
      store.append(appendOf('s', { events: [draft()] })),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
    expect((await readAll(store, 's')).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(await store.stream(tenant, 't')).toBeNull();
    await create(store, 't');
    expect(await readAll(store, 't')).toHaveLength(1);
  },

  "members beyond the contract are dropped: a copied event gets its own place, a copied row the writer's tenant":
    async ({ store }) => {
      await create(store, 'a', { ...stranger, resources: [put('agent', 'x')] });
      const [event] = await readAll(store, 'a');
      const row = await store.resource(stranger, 'agent', 'x');
      if (event === undefined || row === null) throw new Error('not written');
      await create(store, 'b', { events: [draft(), event], resources: [row] });
      expect((await readAll(store, 'b'))[1]).toMatchObject({ ...tenant, stream: 'b', seq: 2, id: event.id });
      expect(await store.resource(tenant, 'agent', 'x')).toMatchObject(tenant);
    },

  'a payload that is no JSON, or nested without end, is refused alone and the store goes on': async ({
    store,
  }) => {
    await create(store, 's');
    const endless: JsonObject = {};
    endless.self = endless;
    let deep: JsonObject = {};
    for (let n = 0; n < 5_000; n++) deep = { deep };
    const results = await Promise.allSettled([
      store.append(appendOf('s', { events: [draft({ public: endless })] })),
      store.append(appendOf('s')),
      store.append(appendOf('s', { events: [draft({ public: deep })] })),
    ]);
    expect(results[0].status).toBe('rejected');
    expect(results[1].status).toBe('fulfilled');
    const written = results.filter(({ status }) => status === 'fulfilled').length;
    expect(await readAll(store, 's')).toHaveLength(1 + written);
  },

  'listeners hear of every commit after it is readable, and of nothing else': async ({ store }) => {
    const heard = new Map<string, number>();
    const reads: Promise<void>[] = [];
    const stop = store.onAppend((touched) => {
      for (const { stream, head } of touched) {
        heard.set(stream, head);
        const check = async (): Promise<void> => {
          expect((await store.read(stream, head - 1, 1)).map(({ seq }) => seq)).toEqual([head]);
        };
        reads.push(check());
      }
    });
    await Promise.all(['a', 'b', 'c'].map((stream) => create(store, stream)));
    await store.append(appendOf('a', { events: [draft(), draft()] }));
    await store.append(appendOf('b', { expectedSeq: 0 }));
    await store.append(appendOf('missing'));
    await Promise.all(reads);
    expect(Object.fromEntries(heard)).toEqual({ a: 3, b: 1, c: 1 });
    stop();
    await store.append(appendOf('c'));
    expect(heard.get('c')).toBe(1);
  },

  'everything is there after a restart': async (scratch) => {
    await create(scratch.store, 's', { events: [draft({ public: { n: 1 }, private: { p: 2 } }), draft()] });
    const before = await readAll(scratch.store, 's');
    const row = await scratch.store.stream(tenant, 's');
    await scratch.reopen();
    expect(await readAll(scratch.store, 's')).toEqual(before);
    expect(await scratch.store.stream(tenant, 's')).toEqual(row);
  },

  'a closed store says it is unavailable, and close waits for what was asked before': async ({ store }) => {
    const appended = store.append(appendOf('s', { create: true }));
    const closed = store.close();
    await expect(appended).resolves.toMatchObject({ status: 'ok' });
    await closed;
    await store.close();
    await expect(store.append(appendOf('s'))).rejects.toMatchObject({ name: 'StoreUnavailable' });
    await expect(store.read('s', 0, 1)).rejects.toMatchObject({ name: 'StoreUnavailable' });
  },
};
