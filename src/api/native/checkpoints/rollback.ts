import { rollback, rollbackParams } from '../../../protocol/checkpoints.ts';
import { type Problem, problem } from '../../../protocol/errors.ts';
import { rollbackTarget } from '../../../session/fold-checkpoints.ts';
import type { SessionState } from '../../../session/state.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, isBusy, toNewEvent } from '../../session-act.ts';

/** Ours: asked for in the log; the engine puts the workspace back, and then the conversation is back there too. */
export const rollBackSession = operation({
  id: 'rollBackSession',
  method: 'post',
  path: '/v1/sessions/{session_id}/rollback',
  tag: 'checkpoints',
  summary: 'Go back to a checkpoint: workspace and conversation',
  body: rollbackParams,
  response: rollback,
  problems: ['not_found', 'invalid_request', 'conflict', 'idempotency_key_reused', 'contended'],
  run: (call) => {
    const { checkpoint_id } = call.body;
    return actOnSession(call, {
      prepare({ summary }, state, mint) {
        const refusal = refusalOf(state, checkpoint_id);
        if (refusal) return refusal;
        const { thread_id: thread } = summary;
        const origin = { id: mint('event', 'rollback'), actor: call.principal.actor, thread };
        const asked = inputDraft('session.rollback_requested', { checkpoint_id }, null, {
          ...origin,
          audience: 'operator',
        });
        return { events: [toNewEvent(asked)] };
      },
      answer: (session_id) => ({ type: 'session_rollback', session_id, checkpoint_id, status: 'pending' }),
    });
  },
});

function refusalOf(state: SessionState, id: string): Problem | null {
  const { kept, restoring } = state.checkpoints;
  if (state.isArchived || state.status === 'terminated')
    return problem('invalid_request', 'This session is archived. Fork it from the checkpoint instead.');
  if (isBusy(state) || state.turn !== null) {
    return problem(
      'invalid_request',
      'This session is in the middle of a turn: send user.interrupt, wait until it is idle, go back then.',
    );
  }
  if (restoring !== null) return problem('conflict', 'This session’s workspace is being put back just now.');
  const known = kept.find((one) => one.id === id);
  if (!known) return problem('not_found', `This session has no checkpoint ${id} that is ready.`);
  if (rollbackTarget(state, id) !== null) return null;
  return problem('conflict', 'An earlier rollback has left this checkpoint behind. Fork from it instead.');
}
