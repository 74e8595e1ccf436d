import { isProblem, problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { sessionResource } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';

export const retrieveSessionResource = operation({
  id: 'retrieveSessionResource',
  method: 'get',
  path: '/v1/sessions/{session_id}/resources/{resource_id}',
  tag: 'sessions',
  summary: 'Retrieve one mounted resource of a session',
  response: sessionResource,
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const { resources } = sessionView(found.id, found.summary, call.deps.now());
    const resource = (resources as JsonObject[]).find(({ id }) => id === call.params.resource_id);
    return resource
      ? { body: resource }
      : problem('not_found', `There is no resource ${call.params.resource_id ?? ''} in this session.`);
  },
});
