/** The agent a new session works with (managed-agents-protocol.md §4.1): latest, a version, or one with overrides. */
import type { AgentReference, SessionAgent } from '../../../protocol/agents.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { problem } from '../../../protocol/errors.ts';
import type { Store, Tenant } from '../../../store/store.ts';
import { bodyOf, resolveModel, resolveTools, sessionAgentOf, toolsProblem } from '../agents/resolve.ts';

export async function chooseAgent(
  store: Store,
  tenant: Tenant,
  reference: AgentReference,
): Promise<SessionAgent | Problem> {
  const { id, version } = typeof reference === 'string' ? { id: reference, version: undefined } : reference;
  const newest = await store.resource(tenant, 'agent', id);
  if (!newest) return problem('not_found', `agent: there is no agent ${id}.`);
  if (newest.archivedAt !== null)
    return problem('invalid_request', 'agent: this agent is archived and takes no new sessions.');
  const row = version === undefined ? newest : await store.resource(tenant, 'agent', id, version);
  if (!row) return problem('not_found', `agent: ${id} has no version ${version}.`);
  const base = sessionAgentOf(bodyOf(row));
  return typeof reference === 'object' && reference.type === 'agent_with_overrides'
    ? overridden(base, reference)
    : base;
}

type Overrides = Extract<AgentReference, { type: 'agent_with_overrides' }>;

/** Omitted inherits, a value replaces, null or [] clears; the base's id and version stay. */
function overridden(base: SessionAgent, overrides: Overrides): SessionAgent | Problem {
  if (overrides.model === null) return problem('agent_model_required', 'agent.model: can not be cleared.');
  const flaw = toolsProblem(overrides.tools ?? [], 'agent.tools');
  if (flaw) return flaw;
  return {
    ...base,
    model: overrides.model === undefined ? base.model : withoutEffort(overrides.model),
    system: overrides.system === undefined ? base.system : overrides.system || null,
    tools: overrides.tools === undefined ? base.tools : resolveTools(overrides.tools ?? []),
  };
}

/** An override's effort is ignored and the agent's own is not inherited: the model's default applies (§4.1). */
function withoutEffort(param: NonNullable<Overrides['model']>): SessionAgent['model'] {
  return resolveModel(typeof param === 'string' ? param : param.id, null);
}
