import { isProblem } from '../../../protocol/errors.ts';
import { sessionThread } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { threadView } from '../../session-view.ts';
import { findThread } from '../events/viewing.ts';

export const retrieveThread = operation({
  id: 'retrieveThread',
  method: 'get',
  path: '/v1/sessions/{session_id}/threads/{thread_id}',
  tag: 'threads',
  summary: 'Retrieve a thread',
  response: sessionThread,
  problems: ['not_found'],
  async run(call) {
    const found = await findThread(call);
    return isProblem(found) ? found : { body: threadView(found.id, found.summary, call.deps.now()) };
  },
});
