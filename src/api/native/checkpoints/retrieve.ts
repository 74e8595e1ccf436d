import { checkpoint } from '../../../protocol/checkpoints.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { checkpointViews } from './view.ts';

/** Ours. */
export const retrieveCheckpoint = operation({
  id: 'retrieveCheckpoint',
  method: 'get',
  path: '/v1/sessions/{session_id}/checkpoints/{checkpoint_id}',
  tag: 'checkpoints',
  summary: 'Show a checkpoint',
  response: checkpoint,
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const id = call.params.checkpoint_id ?? '';
    const views = checkpointViews(found.id, await call.folded.fold(found.id));
    const view = views.find((one) => one.id === id);
    return view ? { body: view } : problem('not_found', `This session has no checkpoint ${id}.`);
  },
});
