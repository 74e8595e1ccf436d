import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { pageOf } from '../../../protocol/pages.ts';
import { sessionEvent } from '../../../protocol/session-events.ts';
import { operation } from '../../operation.ts';
import { answerPage, findThread, pageQuery } from '../events/viewing.ts';

export const listThreadEvents = operation({
  id: 'listThreadEvents',
  method: 'get',
  path: '/v1/sessions/{session_id}/threads/{thread_id}/events',
  tag: 'threads',
  summary: 'List the events of a thread',
  query: z.object(pageQuery),
  response: pageOf(sessionEvent),
  problems: ['not_found'],
  async run(call) {
    const found = await findThread(call);
    if (isProblem(found)) return found;
    const thread = found.summary.thread_id;
    return answerPage(call, {
      found,
      viewer: { audience: 'public', thread },
      list: `events of ${thread}`,
      query: call.query,
      types: undefined,
      time: {},
    });
  },
});
