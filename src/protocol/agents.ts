/** Agents (managed-agents-protocol.md §2): params, and the object as it is stored and shown. */
import { z } from 'zod';
import { metadata, metadataParam, metadataPatch, timestamp, unavailable } from './fields.ts';
import { modelConfig, modelParam } from './models.ts';
import { tool, toolParams } from './tools.ts';

const name = z.string().min(1).max(256);
const system = z.string().max(100_000);
const description = z.string().max(2048);

const mcpServers = z
  .array(z.unknown())
  .max(0, { error: () => unavailable('MCP servers are', 'leave mcp_servers out or send []') });
const skills = z
  .array(z.unknown())
  .max(0, { error: () => unavailable('skills are', 'leave skills out or send []') });
const multiagent = z.null({ error: () => unavailable('multiagent is', 'leave it out or send null') });
const executionIdentity = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('service_account') }),
  z.strictObject({ type: z.literal('aws_role'), role_arn: z.string().min(1).max(2048) }),
]);

const optionalParts = {
  system: system.nullish(),
  description: description.nullish(),
  tools: toolParams.nullish(),
  mcp_servers: mcpServers.nullish(),
  skills: skills.nullish(),
  multiagent: multiagent.optional(),
  execution_identity: executionIdentity.nullish(),
};

export const agentCreateParams = z.strictObject({
  name,
  model: modelParam,
  ...optionalParts,
  metadata: metadataParam.nullish(),
});

export const agentUpdateParams = z.strictObject({
  version: z.int().min(1).optional(),
  name: name.optional(),
  model: modelParam.optional(),
  ...optionalParts,
  metadata: metadataPatch.nullish(),
});

/** What a session keeps of its agent (§4.2); `multiagent` is null until there are rosters. */
export const sessionAgent = z.looseObject({
  type: z.literal('agent'),
  id: z.string(),
  version: z.int(),
  name: z.string(),
  description: z.string().nullable(),
  model: modelConfig,
  system: z.string().nullable(),
  tools: z.array(tool),
  mcp_servers: z.array(z.unknown()),
  skills: z.array(z.unknown()),
  multiagent: z.null(),
  execution_identity: executionIdentity,
});

export const agent = sessionAgent.extend({
  metadata,
  created_at: timestamp,
  updated_at: timestamp,
  archived_at: timestamp.nullable(),
});

/** `agent_with_overrides` of a session (§4.1): omitted inherits, a value replaces, null or [] clears. */
export const agentOverrides = z.strictObject({
  type: z.literal('agent_with_overrides'),
  id: z.string().min(1),
  version: z.int().min(1).optional(),
  model: modelParam.nullish(),
  system: system.nullish(),
  tools: toolParams.nullish(),
  mcp_servers: mcpServers.nullish(),
  skills: skills.nullish(),
});

export const agentReference = z.union([
  z.string().min(1),
  z.strictObject({ type: z.literal('agent'), id: z.string().min(1), version: z.int().min(1).optional() }),
  agentOverrides,
]);

export type AgentCreateParams = z.infer<typeof agentCreateParams>;
export type AgentUpdateParams = z.infer<typeof agentUpdateParams>;
export type AgentReference = z.infer<typeof agentReference>;
export type Agent = z.infer<typeof agent>;
export type SessionAgent = z.infer<typeof sessionAgent>;
