import { checkpoint } from '../../../protocol/checkpoints.ts';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, toNewEvent } from '../../session-act.ts';
import { requestedView } from './view.ts';

const maxWaiting = 8;

/** Ours: asked for in the log; the engine makes it at the end of the turn, or at once where none is open. */
export const createCheckpoint = operation({
  id: 'createCheckpoint',
  method: 'post',
  path: '/v1/sessions/{session_id}/checkpoints',
  tag: 'checkpoints',
  summary: 'Keep the workspace of a session as it is at the end of its turn',
  response: checkpoint,
  problems: ['not_found', 'invalid_request', 'conflict', 'idempotency_key_reused', 'contended'],
  run: (call) =>
    actOnSession(call, {
      prepare({ summary }, state, mint) {
        if (state.isArchived || state.status === 'terminated')
          return problem(
            'invalid_request',
            'This session is archived: its workspace does not change any more.',
          );
        if (!state.sandbox.isStarted && !state.sandbox.isReady)
          return problem('invalid_request', 'This session has no workspace yet: it has run no tool.');
        if (state.checkpoints.requests.length >= maxWaiting)
          return problem('conflict', `${maxWaiting} checkpoints wait for the end of the turn already.`);
        const requested = { checkpoint_id: mint('checkpoint', 'checkpoint') };
        const { thread_id: thread } = summary;
        const origin = { id: mint('event', 'requested'), actor: call.principal.actor, thread };
        const draft = inputDraft('checkpoint.requested', requested, null, {
          ...origin,
          audience: 'operator',
        });
        return { events: [toNewEvent(draft)] };
      },
      answer: (session, events) => requestedView(session, String(events[0]?.public.checkpoint_id)),
    }),
});
