import { agent, agentUpdateParams } from '../../../protocol/agents.ts';
import { problem } from '../../../protocol/errors.ts';
import { maxMetadataPairs } from '../../../protocol/fields.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { canonicalJson } from '../../../protocol/json.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { putOf, shownRow } from '../../rows.ts';
import { bodyOf, toolsProblem, updatedBody } from './resolve.ts';

/** §2.3: `version` is an optimistic lock even for a no-op; a no-op makes no version. */
export const updateAgent = operation({
  id: 'updateAgent',
  method: 'post',
  path: '/v1/agents/{agent_id}',
  tag: 'agents',
  summary: 'Update an agent: a new version, or the same where nothing changes',
  body: agentUpdateParams,
  response: agent,
  problems: ['not_found', 'conflict', 'not_supported', 'invalid_metadata', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async (_mint, nowMs) => {
      const id = call.params.agent_id ?? '';
      const row = await call.deps.store.resource(call.principal.tenant, 'agent', id);
      if (!row) return problem('not_found', `There is no agent ${id}.`);
      if (row.archivedAt !== null)
        return problem('invalid_request', 'This agent is archived and can not be changed.');
      const { version } = call.body;
      if (version !== undefined && version !== row.version) {
        return problem(
          'conflict',
          `version: the agent is at version ${row.version}, not ${version}. Read it again.`,
        );
      }
      const flaw = toolsProblem(call.body.tools ?? []);
      if (flaw) return flaw;
      const before = bodyOf(row);
      const after = updatedBody(before, call.body);
      if (Object.keys(after.metadata).length > maxMetadataPairs) {
        return problem('invalid_metadata', `metadata: at most ${maxMetadataPairs} pairs`);
      }
      if (canonicalJson(after as JsonObject) === canonicalJson(before as JsonObject)) {
        return { event: null, answer: shownRow(row) };
      }
      const next = { ...after, version: row.version + 1 };
      const put = putOf(row, {
        version: next.version,
        body: next as JsonObject,
        updatedAt: new Date(nowMs).toISOString(),
      });
      return {
        event: { type: 'agent.updated', facts: { agent_id: id, version: next.version, name: next.name } },
        resources: [put],
        answer: shownRow(put),
      };
    }),
});
