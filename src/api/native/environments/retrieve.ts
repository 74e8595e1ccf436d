import { environment } from '../../../protocol/environments.ts';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { shownEnvironment } from './body.ts';

export const retrieveEnvironment = operation({
  id: 'retrieveEnvironment',
  method: 'get',
  path: '/v1/environments/{environment_id}',
  tag: 'environments',
  summary: 'Retrieve an environment',
  response: environment,
  problems: ['environment_not_found'],
  async run({ deps, principal, params }) {
    const id = params.environment_id ?? '';
    const row = await deps.store.resource(principal.tenant, 'environment', id);
    return row
      ? { body: shownEnvironment(row) }
      : problem('environment_not_found', `There is no environment ${id}.`);
  },
});
