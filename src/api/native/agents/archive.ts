import { agent } from '../../../protocol/agents.ts';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { putOf, shownRow } from '../../rows.ts';

/** Idempotent and irreversible (§1.11); sessions that run go on with their snapshot. */
export const archiveAgent = operation({
  id: 'archiveAgent',
  method: 'post',
  path: '/v1/agents/{agent_id}/archive',
  tag: 'agents',
  summary: 'Archive an agent',
  response: agent,
  problems: ['not_found', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async (_mint, nowMs) => {
      const id = call.params.agent_id ?? '';
      const row = await call.deps.store.resource(call.principal.tenant, 'agent', id);
      if (!row) return problem('not_found', `There is no agent ${id}.`);
      if (row.archivedAt !== null) return { event: null, answer: shownRow(row) };
      const time = new Date(nowMs).toISOString();
      const put = putOf(row, { archivedAt: time, updatedAt: time });
      return {
        event: { type: 'agent.archived', facts: { agent_id: id } },
        resources: [put],
        answer: shownRow(put),
      };
    }),
});
