import { isProblem } from '../../../protocol/errors.ts';
import { sessionEvent } from '../../../protocol/session-events.ts';
import { operation } from '../../operation.ts';
import { answerStream, findThread, streamQuery } from '../events/viewing.ts';

/** Not `/events/stream`: the protocol's path. */
export const streamThreadEvents = operation({
  id: 'streamThreadEvents',
  method: 'get',
  path: '/v1/sessions/{session_id}/threads/{thread_id}/stream',
  tag: 'threads',
  summary: 'Stream the events of a thread as they happen',
  query: streamQuery,
  response: { kind: 'events', schema: sessionEvent },
  problems: ['not_found'],
  async run(call) {
    const found = await findThread(call);
    if (isProblem(found)) return found;
    return answerStream(call, found, { audience: 'public', thread: found.summary.thread_id }, call.query);
  },
});
