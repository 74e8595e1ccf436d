import { z } from 'zod';
import { checkpoint } from '../../../protocol/checkpoints.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { page, pageOf, wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { checkpointViews } from './view.ts';

/** Ours. All of them in one page, oldest first: old ones that nobody asked for give way to new ones. */
export const listCheckpoints = operation({
  id: 'listCheckpoints',
  method: 'get',
  path: '/v1/sessions/{session_id}/checkpoints',
  tag: 'checkpoints',
  summary: 'List the checkpoints of a session',
  query: z.object({ limit: wholeNumber(1, 1000).optional(), page: page.optional() }),
  response: pageOf(checkpoint),
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    return { body: { data: checkpointViews(found.id, await call.folded.fold(found.id)), next_page: null } };
  },
});
