import { agent, agentCreateParams } from '../../../protocol/agents.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { shownRow } from '../../rows.ts';
import { agentBody, toolsProblem } from './resolve.ts';

export const createAgent = operation({
  id: 'createAgent',
  method: 'post',
  path: '/v1/agents',
  tag: 'agents',
  summary: 'Create an agent',
  body: agentCreateParams,
  response: agent,
  problems: ['not_supported', 'invalid_metadata', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async (mint, nowMs) => {
      const flaw = toolsProblem(call.body.tools ?? []);
      if (flaw) return flaw;
      const id = mint('agent', 'agent');
      const time = new Date(nowMs).toISOString();
      const row = {
        kind: 'agent',
        id,
        version: 1,
        body: agentBody(id, call.body) as JsonObject,
        createdAt: time,
        updatedAt: time,
        archivedAt: null,
        uniqueName: null,
      };
      return {
        event: { type: 'agent.created', facts: { agent_id: id, version: 1, name: call.body.name } },
        resources: [row],
        answer: shownRow(row),
      };
    }),
});
