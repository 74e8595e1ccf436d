import { z } from 'zod';
import { environment } from '../../../protocol/environments.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { page, pageOf, wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { readRowPage } from '../../rows.ts';
import { shownEnvironment } from './body.ts';

export const listEnvironmentVersions = operation({
  id: 'listEnvironmentVersions',
  method: 'get',
  path: '/v1/environments/{environment_id}/versions',
  tag: 'environments',
  summary: 'List the versions of an environment, newest first',
  query: z.object({ limit: wholeNumber(1, 100).optional(), page: page.optional() }),
  response: pageOf(environment),
  problems: ['environment_not_found'],
  async run({ deps, principal, params, query }) {
    const id = params.environment_id ?? '';
    const newest = await deps.store.resource(principal.tenant, 'environment', id);
    if (!newest) return problem('environment_not_found', `There is no environment ${id}.`);
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: 'environment',
      list: `versions of ${id}`,
      versionsOf: id,
      page: query.page,
      limit: query.limit ?? 20,
    });
    if (isProblem(result)) return result;
    const data = result.rows.map((row) => shownEnvironment({ ...row, archivedAt: newest.archivedAt }));
    return { body: { data, next_page: result.next } };
  },
});
