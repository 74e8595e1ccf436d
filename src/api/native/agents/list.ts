import { z } from 'zod';
import { agent } from '../../../protocol/agents.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { instant, page, pageOf, truth, wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { readRowPage, shownRow } from '../../rows.ts';

export const listAgents = operation({
  id: 'listAgents',
  method: 'get',
  path: '/v1/agents',
  tag: 'agents',
  summary: 'List agents, newest first',
  query: z.object({
    'created_at[gte]': instant.optional(),
    'created_at[lte]': instant.optional(),
    include_archived: truth.optional(),
    limit: wholeNumber(1, 100).optional(),
    page: page.optional(),
  }),
  response: pageOf(agent),
  async run({ deps, principal, query }) {
    const { 'created_at[gte]': gte, 'created_at[lte]': lte } = query;
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: 'agent',
      list: 'agents',
      includeArchived: query.include_archived ?? false,
      createdAt: { ...(gte ? { gte } : {}), ...(lte ? { lte } : {}) },
      page: query.page,
      limit: query.limit ?? 20,
    });
    return isProblem(result) ? result : { body: { data: result.rows.map(shownRow), next_page: result.next } };
  },
});
