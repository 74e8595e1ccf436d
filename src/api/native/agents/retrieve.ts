import { z } from 'zod';
import { agent } from '../../../protocol/agents.ts';
import { problem } from '../../../protocol/errors.ts';
import { wholeNumber } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { shownRow } from '../../rows.ts';

export const retrieveAgent = operation({
  id: 'retrieveAgent',
  method: 'get',
  path: '/v1/agents/{agent_id}',
  tag: 'agents',
  summary: 'Retrieve an agent, or one of its versions',
  query: z.object({ version: wholeNumber(1, 999_999_999).optional() }),
  response: agent,
  problems: ['not_found'],
  async run({ deps, principal, params, query }) {
    const id = params.agent_id ?? '';
    const newest = await deps.store.resource(principal.tenant, 'agent', id);
    if (!newest) return problem('not_found', `There is no agent ${id}.`);
    if (query.version === undefined) return { body: shownRow(newest) };
    const row = await deps.store.resource(principal.tenant, 'agent', id, query.version);
    if (!row) return problem('not_found', `Agent ${id} has no version ${query.version}.`);
    // Archiving is of the agent, not of a version.
    return { body: shownRow({ ...row, archivedAt: newest.archivedAt }) };
  },
});
