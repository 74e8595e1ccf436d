import { z } from 'zod';
import { environment } from '../../../protocol/environments.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { page, pageOf, truth, wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { readRowPage } from '../../rows.ts';
import { shownEnvironment } from './body.ts';

export const listEnvironments = operation({
  id: 'listEnvironments',
  method: 'get',
  path: '/v1/environments',
  tag: 'environments',
  summary: 'List environments, newest first',
  query: z.object({
    include_archived: truth.optional(),
    limit: wholeNumber(1, 100).optional(),
    page: page.optional(),
  }),
  response: pageOf(environment),
  async run({ deps, principal, query }) {
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: 'environment',
      list: 'environments',
      includeArchived: query.include_archived ?? false,
      page: query.page,
      limit: query.limit ?? 20,
    });
    return isProblem(result)
      ? result
      : { body: { data: result.rows.map(shownEnvironment), next_page: result.next } };
  },
});
