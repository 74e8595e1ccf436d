import { expect, it } from 'vitest';
import { EngineRoom, event, idleAfter, message, tenant } from '../../test/peers/engine-room.ts';
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
