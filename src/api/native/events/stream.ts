import { isProblem } from '../../../protocol/errors.ts';
import { sessionEvent } from '../../../protocol/session-events.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { answerStream, streamQuery } from './viewing.ts';

export const streamEvents = operation({
  id: 'streamEvents',
  method: 'get',
  path: '/v1/sessions/{session_id}/events/stream',
  tag: 'events',
  summary: 'Stream the events of a session as they happen',
  query: streamQuery,
  response: { kind: 'events', schema: sessionEvent },
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    return answerStream(call, found, { audience: 'public', thread: null }, call.query);
  },
});
