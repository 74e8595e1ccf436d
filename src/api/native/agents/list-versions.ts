import { z } from 'zod';
import { agent } from '../../../protocol/agents.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { page, pageOf, wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { readRowPage, shownRow } from '../../rows.ts';

export const listAgentVersions = operation({
  id: 'listAgentVersions',
  method: 'get',
  path: '/v1/agents/{agent_id}/versions',
  tag: 'agents',
  summary: 'List the versions of an agent, newest first',
  query: z.object({ limit: wholeNumber(1, 100).optional(), page: page.optional() }),
  response: pageOf(agent),
  problems: ['not_found'],
  async run({ deps, principal, params, query }) {
    const id = params.agent_id ?? '';
    const newest = await deps.store.resource(principal.tenant, 'agent', id);
    if (!newest) return problem('not_found', `There is no agent ${id}.`);
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: 'agent',
      list: `versions of ${id}`,
      versionsOf: id,
      page: query.page,
      limit: query.limit ?? 20,
    });
    if (isProblem(result)) return result;
    const data = result.rows.map((row) => shownRow({ ...row, archivedAt: newest.archivedAt }));
    return { body: { data, next_page: result.next } };
  },
});
