import { expect, it } from 'vitest';
import { EngineRoom, event, idleAfter, message, tenant } from '../../test/peers/engine-room.ts';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import { noLayers } from '../../test/peers/no-layers.ts';
import { Fleet, type FleetHost } from '../sandbox/fleet/fleet.ts';
import type { HostHello } from '../sandbox/host/wire.ts';
import { asNew } from './drive.ts';
import { Errands } from './errands.ts';

it('removes the disk of a deleted session once, even when the host was away at first (S5)', async () => {
  const room = await new EngineRoom().open(() => ({ toolCalls: [] }));
  try {
    const session = await room.createSession({}, message('go'));
    await room.until(session, idleAfter(1));
    const outbox = [{ id: `${session}/remove`, kind: 'sandbox.remove', body: { session } }];
    const events = [asNew(event('session.deleted', {}))];
    const deleted = await room.store.append({
      ...tenant,
      stream: session,
      events,
      eraseStream: true,
      outbox,
    });
    expect(deleted.status).toBe('ok');
    const errands = new Errands({
      store: room.store,
      executor: room.executor,
      onError: (error) => room.errors.push(error),
    });
    room.executor.breakNext('destroySandbox', 'before');
    await errands.runOnce();
    expect(await room.store.pendingOutbox(10)).toHaveLength(1);
    await errands.runOnce();
    await errands.runOnce();
    expect(room.executor.asked.filter(({ method }) => method === 'destroySandbox')).toHaveLength(1);
    expect(room.errors).toEqual([]);
  } finally {
    await room.close();
  }
});

it('does not take a disk that could not be removed for removed, and removes the others (S5)', async () => {
  const room = await new EngineRoom().open(() => ({ toolCalls: [] }));
  try {
    const sessions = [await room.createSession({}), await room.createSession({})];
    for (const session of sessions) {
      const outbox = [{ id: `${session}/remove`, kind: 'sandbox.remove', body: { session } }];
      await room.store.append({ ...tenant, stream: session, events: [], outbox });
    }
    const destroy = room.executor.destroySandbox.bind(room.executor);
    room.executor.destroySandbox = async (request) =>
      request.session === sessions[0] ? { refused: 'io_error', message: 'busy' } : destroy(request);
    const errors: unknown[] = [];
    const onError = (error: unknown): void => void errors.push(error);
    const errands = new Errands({ store: room.store, executor: room.executor, onError });
    await errands.runOnce();
    expect((await room.store.pendingOutbox(10)).map(({ body }) => body.session)).toEqual([sessions[0]]);
    expect(errors).toHaveLength(1);
    room.executor.destroySandbox = destroy;
    await errands.runOnce();
    expect(await room.store.pendingOutbox(10)).toEqual([]);
  } finally {
    await room.close();
  }
});

it('waits for the host that has the disk, for as long as it is away, and does the others meanwhile (S5)', async () => {
  const room = await new EngineRoom().open(() => ({ toolCalls: [] }));
  const [here, away] = [new MemoryExecutor(), new MemoryExecutor()];
  const fleet = new Fleet({ pingMs: 60_000 });
  const lost = new Set<string>();
  try {
    const client = (executor: MemoryExecutor, hostId: string): FleetHost =>
      Object.assign(executor, noLayers, { hello: async () => helloOf(hostId), close: async () => {} });
    fleet.add(helloOf('here~1'), client(here, 'here~1'));
    const sessions = [await room.createSession({}), await room.createSession({})];
    for (const [index, session] of sessions.entries()) {
      const host = ['away~1', 'here~1'][index] ?? '';
      const outbox = [{ id: `${session}/remove`, kind: 'sandbox.remove', body: { session, host } }];
      await room.store.append({ ...tenant, stream: session, events: [], outbox });
    }
    const onError = (error: unknown): void => void room.errors.push(error);
    const losses = { isLost: async (host: string) => lost.has(host) };
    const errands = new Errands({ store: room.store, executor: fleet, losses, onError });
    const waiting = async () => (await room.store.pendingOutbox(10)).map(({ body }) => body.session);
    const removals = (executor: MemoryExecutor) =>
      executor.asked.filter(({ method }) => method === 'destroySandbox').length;
    await errands.runOnce();
    await errands.runOnce();
    expect(await waiting()).toEqual([sessions[0]]);
    expect(removals(here)).toBe(1);
    fleet.add(helloOf('away~1'), client(away, 'away~1'));
    await errands.runOnce();
    expect(await waiting()).toEqual([]);
    expect(removals(away)).toBe(1);
    // A machine that is given up has no disk any more.
    const outbox = [{ id: 'gone/remove', kind: 'sandbox.remove', body: { session: 'gone', host: 'gone~1' } }];
    await room.store.append({ ...tenant, stream: sessions[0] as string, events: [], outbox });
    await errands.runOnce();
    expect(await waiting()).toEqual(['gone']);
    lost.add('gone~1');
    await errands.runOnce();
    expect(await waiting()).toEqual([]);
    expect(room.errors).toEqual([]);
  } finally {
    await fleet.close();
    await room.close();
  }
});

function helloOf(hostId: string): HostHello {
  return { hostId, sandboxes: 0 } as HostHello;
}

it('removes a deleted checkpoint under the owner’s fence, also when the host was away at first (S5)', async () => {
  const room = await new EngineRoom().open(() => ({ text: 'done' }));
  try {
    const session = await room.createSession({}, message('go'));
    await room.until(session, idleAfter(1));
    const fence = (await room.store.stream(tenant, session))?.fence ?? 0;
    await room.executor.checkpoint({ session, fence, checkpoint: 'ckpt_1' });
    await room.executor.checkpoint({ session, fence, checkpoint: 'ckpt_2' });
    const body = { session, checkpoint: 'ckpt_1' };
    const outbox = [{ id: `${session}/ckpt_1/remove`, kind: 'checkpoint.remove', body }];
    await room.store.append({ ...tenant, stream: session, events: [], outbox });
    const { store, executor } = room;
    const errands = new Errands({ store, executor, onError: (error) => room.errors.push(error) });
    room.executor.breakNext('removeCheckpoint', 'before');
    await errands.runOnce();
    await errands.runOnce();
    expect(await room.executor.checkpoints({ session, fence })).toMatchObject({
      checkpoints: [{ checkpoint: 'ckpt_2' }],
    });
    expect(await room.store.pendingOutbox(10)).toEqual([]);
    expect(room.errors).toEqual([]);
  } finally {
    await room.close();
  }
});
