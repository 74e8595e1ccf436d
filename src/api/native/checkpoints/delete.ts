import { problem } from '../../../protocol/errors.ts';
import { deletedOf } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, toNewEvent } from '../../session-act.ts';

/** Ours: out of the log at once, off the host's disk soon (S5), also where the host is away just now. */
export const deleteCheckpoint = operation({
  id: 'deleteCheckpoint',
  method: 'delete',
  path: '/v1/sessions/{session_id}/checkpoints/{checkpoint_id}',
  tag: 'checkpoints',
  summary: 'Delete a checkpoint',
  response: deletedOf('checkpoint_deleted'),
  problems: ['not_found', 'conflict', 'idempotency_key_reused', 'contended'],
  run: (call) => {
    const checkpoint = call.params.checkpoint_id ?? '';
    return actOnSession(call, {
      prepare({ id: session, summary }, state, mint) {
        const { kept, restoring } = state.checkpoints;
        if (!kept.some(({ id }) => id === checkpoint))
          return problem('not_found', `This session has no checkpoint ${checkpoint} that is ready.`);
        if (restoring?.fromSession === null && restoring.checkpoint === checkpoint)
          return problem('conflict', 'The session is going back to this checkpoint just now.');
        const { thread_id: thread } = summary;
        const origin = { id: mint('event', 'removed'), actor: call.principal.actor, thread };
        const removed = { checkpoint_id: checkpoint, because: 'requested' as const };
        const event = inputDraft('checkpoint.removed', removed, null, { ...origin, audience: 'operator' });
        const { hostId: host } = state.sandbox;
        const body = { session, checkpoint, ...(host === null ? {} : { host }) };
        return {
          events: [toNewEvent(event)],
          extra: { outbox: [{ id: `${session}/${checkpoint}/remove`, kind: 'checkpoint.remove', body }] },
        };
      },
      answer: () => ({ id: checkpoint, type: 'checkpoint_deleted' }),
    });
  },
});
