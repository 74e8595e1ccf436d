/**
 * From what a client sends to what is stored and echoed (managed-agents-protocol.md §2.2, §2.3, §7.1, §7.5): defaults
 * filled in, toolsets resolved, patches merged. Pure.
 */
import type { AgentCreateParams, AgentUpdateParams, SessionAgent } from '../../../protocol/agents.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { problem } from '../../../protocol/errors.ts';
import { patchMetadata } from '../../../protocol/fields.ts';
import type { Json, JsonObject } from '../../../protocol/json.ts';
import type { ModelConfig, ModelParam } from '../../../protocol/models.ts';
import type { Tool, ToolParams, ToolsetParams } from '../../../protocol/tools.ts';
import { checkCustomTools } from '../../../tools/custom.ts';

/** The stored body of an agent version: the object of the API less `created_at`, `updated_at`, `archived_at`. */
export type AgentBody = SessionAgent & { metadata: Record<string, string> };

export function agentBody(id: string, params: AgentCreateParams): AgentBody {
  return {
    type: 'agent',
    id,
    version: 1,
    name: params.name,
    description: params.description || null,
    model: resolveModel(params.model, null),
    system: params.system || null,
    tools: resolveTools(params.tools ?? []),
    mcp_servers: [],
    skills: [],
    multiagent: null,
    execution_identity: params.execution_identity ?? { type: 'service_account' },
    metadata: params.metadata ?? {},
  };
}

/** The next body, with the version of the present one: whoever calls decides whether anything changed. */
export function updatedBody(before: AgentBody, params: AgentUpdateParams): AgentBody {
  return {
    ...before,
    name: params.name ?? before.name,
    // `null` and `""` both clear.
    description: params.description === undefined ? before.description : params.description || null,
    system: params.system === undefined ? before.system : params.system || null,
    model: params.model === undefined ? before.model : resolveModel(params.model, before.model),
    tools: params.tools === undefined ? before.tools : resolveTools(params.tools ?? []),
    execution_identity:
      params.execution_identity === undefined
        ? before.execution_identity
        : (params.execution_identity ?? { type: 'service_account' }),
    metadata: patchMetadata(before.metadata, params.metadata ?? {}),
  };
}

/** An omitted effort stays where the model stays (§2.3); `before` is null where nothing is inherited. */
export function resolveModel(param: ModelParam, before: ModelConfig | null): ModelConfig {
  const config = typeof param === 'string' ? { id: param } : param;
  const inherited = before?.id === config.id ? before.effort : undefined;
  const given = 'effort' in config ? config.effort : undefined;
  const effort = given == null ? inherited : { type: typeof given === 'string' ? given : given.type };
  return { id: config.id, ...(effort ? { effort } : {}), speed: 'standard' };
}

/** What the schemas of the protocol do not check: names and schemas of custom tools. Null where all is well. */
export function toolsProblem(tools: ToolParams, path = 'tools'): Problem | null {
  // As they are in the whole list, so that paths name the right one.
  const lines = tools.flatMap((tool, index) => {
    if (tool.type !== 'custom') return [];
    const check = checkCustomTools([tool as unknown as Json], '');
    return check.ok
      ? []
      : check.errors.map((error) => `${path}.${index}${error.path.slice('[0]'.length)}: ${error.message}`);
  });
  return lines.length === 0 ? null : problem('invalid_request', lines.slice(0, 5).join('; '));
}

export function resolveTools(tools: ToolParams): Tool[] {
  return tools.map((tool) =>
    tool.type === 'custom'
      ? { type: 'custom', name: tool.name, description: tool.description, input_schema: tool.input_schema }
      : resolveToolset(tool),
  );
}

function resolveToolset(params: ToolsetParams): Tool {
  const byDefault = {
    enabled: params.default_config?.enabled ?? true,
    permission_policy: params.default_config?.permission_policy ?? { type: 'always_allow' as const },
  };
  // Only the entries the caller sent, in order (§2.2).
  const configs = (params.configs ?? []).map((config) => ({
    type: config.name,
    name: config.name,
    enabled: config.enabled ?? byDefault.enabled,
    permission_policy: config.permission_policy ?? byDefault.permission_policy,
    ...(config.name === 'web_fetch' ? { url_sources: null } : {}),
  }));
  return { type: 'agent_toolset_20260401', default_config: byDefault, configs };
}

/** As a session keeps it (§4.2). */
export function sessionAgentOf(body: AgentBody): SessionAgent {
  const { metadata: _metadata, ...agent } = body;
  return agent;
}

export function bodyOf(row: { body: JsonObject }): AgentBody {
  // Rows of this kind are written by this folder only.
  return row.body as unknown as AgentBody;
}
