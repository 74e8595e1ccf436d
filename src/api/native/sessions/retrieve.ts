import { isProblem } from '../../../protocol/errors.ts';
import { session } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';

export const retrieveSession = operation({
  id: 'retrieveSession',
  method: 'get',
  path: '/v1/sessions/{session_id}',
  tag: 'sessions',
  summary: 'Retrieve a session',
  response: session,
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    return isProblem(found) ? found : { body: sessionView(found.id, found.summary, call.deps.now()) };
  },
});
