import { environmentBuild } from '../../../protocol/environment-builds.ts';
import type { EnvironmentConfig } from '../../../protocol/environments.ts';
import { isProblem, type Problem, problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { type Incoming, operation } from '../../operation.ts';
import { orUnavailable } from './reach.ts';

const noBuilds = problem(
  'not_supported',
  'This server builds no environments: it has no sandbox host beside it.',
);

/** Ahead of the first session; asking again while it builds, or when it is there, changes nothing. */
export const buildEnvironment = operation({
  id: 'buildEnvironment',
  method: 'post',
  path: '/v1/environments/{environment_id}/build',
  tag: 'environments',
  summary: 'Build the layer of an environment ahead of its sessions',
  response: environmentBuild,
  problems: ['environment_not_found', 'environment_archived', 'not_supported'],
  async run(call) {
    const found = await configOf(call);
    if (isProblem(found)) return found;
    if (found.isArchived)
      return problem('environment_archived', 'This environment is archived and takes no new sessions.');
    const begun = await orUnavailable(call.deps.environments?.begin(call.principal.tenant, found.config));
    if (begun) return begun;
    return stateOf(call, found);
  },
});

export const retrieveEnvironmentBuild = operation({
  id: 'retrieveEnvironmentBuild',
  method: 'get',
  path: '/v1/environments/{environment_id}/build',
  tag: 'environments',
  summary: 'How far the present version of an environment is built',
  response: environmentBuild,
  problems: ['environment_not_found', 'not_supported'],
  async run(call) {
    const found = await configOf(call);
    return isProblem(found) ? found : stateOf(call, found);
  },
});

type Found = { id: string; version: number; config: EnvironmentConfig; isArchived: boolean };

async function configOf({ deps, principal, params }: Incoming): Promise<Found | Problem> {
  const id = params.environment_id ?? '';
  const row = await deps.store.resource(principal.tenant, 'environment', id);
  if (!row) return problem('environment_not_found', `There is no environment ${id}.`);
  const { config } = row.body as unknown as { config: EnvironmentConfig };
  return { id, version: row.version, config, isArchived: row.archivedAt !== null };
}

async function stateOf({ deps, principal }: Incoming, { id, version, config }: Found) {
  const state = await deps.environments?.state(principal.tenant, config);
  if (!state) return noBuilds;
  const about = { type: 'environment_build', environment_id: id, version };
  return { body: { ...about, ...state } as unknown as JsonObject };
}
