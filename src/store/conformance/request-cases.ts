/** Idempotent requests, and what is written atomically with them: reservations and the outbox. */
import { expect } from 'vitest';
import type { Cases } from './scratch.ts';
import { appendOf, create, draft, okOf, readAll, stranger, tenant } from './scratch.ts';

const request = { key: 'send-1', hash: 'h1' };

export const requestCases: Cases = {
  'a repeated request gets its first places, whatever has happened since': async (scratch) => {
    await create(scratch.store, 's', { wakeAt: 0 });
    const events = [draft(), draft()];
    const first = okOf(await scratch.store.append(appendOf('s', { request, events })));
    await scratch.store.append(appendOf('s'));
    await scratch.store.claim('wrkr_one', 1);
    await scratch.reopen();
    const again = await scratch.store.append(appendOf('s', { request, events, expectedSeq: 1, fence: 77 }));
    expect(again).toEqual({ status: 'duplicate', firstSeq: first.firstSeq, head: first.head });
    expect(await readAll(scratch.store, 's')).toHaveLength(4);
  },

  'the same key with another request is a conflict and writes nothing': async ({ store }) => {
    await create(store, 's', { request });
    const other = await store.append(appendOf('s', { request: { ...request, hash: 'h2' } }));
    expect(other).toMatchObject({ status: 'conflict', reason: 'request' });
    expect(await readAll(store, 's')).toHaveLength(1);
  },

  'a key is unique per stream, not across streams': async ({ store }) => {
    await create(store, 's', { request });
    await create(store, 't', { request });
  },

  'of 64 concurrent sends under one key exactly one is written and all name its places': async ({
    store,
  }) => {
    await create(store, 's');
    const results = await Promise.all(
      Array.from({ length: 64 }, () => store.append(appendOf('s', { request, events: [draft(), draft()] }))),
    );
    expect(results.filter(({ status }) => status === 'ok')).toHaveLength(1);
    expect(results.filter(({ status }) => status === 'duplicate')).toHaveLength(63);
    for (const result of results) expect(result).toMatchObject({ firstSeq: 2, head: 3 });
    expect(await readAll(store, 's')).toHaveLength(3);
  },

  'a repeated creation is a duplicate where its key is known and exists where not': async ({ store }) => {
    await create(store, 's', { request });
    expect(await store.append(appendOf('s', { create: true, request }))).toMatchObject({
      status: 'duplicate',
    });
    expect(await store.append(appendOf('s', { create: true }))).toMatchObject({ reason: 'exists' });
  },

  'a refused request does not burn its key': async ({ store }) => {
    await create(store, 's');
    expect(await store.append(appendOf('s', { request, expectedSeq: 9 }))).toMatchObject({ status: 'moved' });
    expect(await store.append(appendOf('s', { request, expectedSeq: 1 }))).toMatchObject({ status: 'ok' });
  },

  'a reservation is made and settled with its events or not at all (G3)': async (scratch) => {
    const { store } = scratch;
    await create(store, 's');
    const reservation = { op: 'reserve', id: 'mcall_1', amountMicros: 500 } as const;
    expect(await store.append(appendOf('s', { reservation, expectedSeq: 0 }))).toMatchObject({
      status: 'moved',
    });
    expect(await store.reservation(tenant, 'mcall_1')).toBeNull();
    okOf(await store.append(appendOf('s', { reservation })));
    expect(await store.reservation(stranger, 'mcall_1')).toBeNull();
    expect(await store.reservation(tenant, 'mcall_1')).toEqual({
      ...tenant,
      stream: 's',
      id: 'mcall_1',
      amountMicros: 500,
      settledAt: null,
      costMicros: null,
    });
    const settle = { op: 'settle', id: 'mcall_1', costMicros: 123 } as const;
    okOf(await store.append(appendOf('s', { reservation: settle })));
    const reopened = await scratch.reopen();
    expect(await reopened.reservation(tenant, 'mcall_1')).toMatchObject({
      costMicros: 123,
      settledAt: '2026-03-01T12:00:00.000Z',
    });
  },

  'reserving an id twice or settling what is not open is refused with all of its events': async ({
    store,
  }) => {
    await create(store, 's', { reservation: { op: 'reserve', id: 'mcall_1', amountMicros: null } });
    const again = store.append(
      appendOf('s', { reservation: { op: 'reserve', id: 'mcall_1', amountMicros: 1 } }),
    );
    await expect(again).rejects.toThrow();
    const unknown = store.append(
      appendOf('s', { reservation: { op: 'settle', id: 'mcall_2', costMicros: 1 } }),
    );
    await expect(unknown).rejects.toThrow();
    expect(await readAll(store, 's')).toHaveLength(1);
  },

  'outbox messages are there with their events, in order, until they are acknowledged': async (scratch) => {
    const { store } = scratch;
    const message = (id: string) => ({ id, kind: 'webhook', body: { id } });
    await create(store, 's', { outbox: [message('m1'), message('m2')] });
    await store.append(appendOf('s', { outbox: [message('lost')], expectedSeq: 9 }));
    await store.append(appendOf('s', { outbox: [message('m3')] }));
    expect((await store.pendingOutbox(2)).map(({ id }) => id)).toEqual(['m1', 'm2']);
    await store.ackOutbox(['m1', 'unknown']);
    const reopened = await scratch.reopen();
    expect(await reopened.pendingOutbox(10)).toEqual(
      ['m2', 'm3'].map((id) => ({ ...tenant, stream: 's', ...message(id) })),
    );
  },
};
