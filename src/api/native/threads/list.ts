import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { pageOf } from '../../../protocol/pages.ts';
import { sessionStatuses, sessionThread } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { listOf } from '../../query.ts';
import { findSession } from '../../session-act.ts';
import { threadView } from '../../session-view.ts';
import { pageQuery } from '../events/viewing.ts';

/** One page: a session has its primary thread and no other yet. */
export const listThreads = operation({
  id: 'listThreads',
  method: 'get',
  path: '/v1/sessions/{session_id}/threads',
  tag: 'threads',
  summary: 'List the threads of a session',
  query: z.object({ statuses: listOf(z.enum(sessionStatuses)).optional(), ...pageQuery }),
  response: pageOf(sessionThread),
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const { statuses } = call.query;
    const isWanted = statuses === undefined || statuses.includes(found.summary.status);
    const data = isWanted ? [threadView(found.id, found.summary, call.deps.now())] : [];
    return { body: { data, next_page: null } };
  },
});
