/** Tools of an agent (managed-agents-protocol.md §7.1, §7.3): what a client sends and the resolved form it gets back. */
import { z } from 'zod';
import { unavailable } from './fields.ts';

/** Tools of the toolset that exist here; `apply_patch` is ours. */
export const builtinTools = ['bash', 'read', 'write', 'edit', 'glob', 'grep', 'apply_patch'] as const;
export type BuiltinTool = (typeof builtinTools)[number];

/** Tools of the protocol's toolset that need a network and are not built yet. */
export const webTools = ['web_fetch', 'web_search'] as const;

const policyType = z.enum(['always_allow', 'always_ask'], {
  error: (issue) =>
    issue.input === 'auto' ? unavailable('the policy "auto" is', 'use "always_ask"') : undefined,
});

export const permissionPolicy = z.strictObject({ type: policyType });

const toolConfigParams = z
  .strictObject({
    name: z.enum([...builtinTools, ...webTools]),
    type: z.string().optional(),
    enabled: z.boolean().nullish(),
    permission_policy: permissionPolicy.nullish(),
  })
  .superRefine((config, context) => {
    if (config.type !== undefined && config.type !== config.name) {
      context.addIssue({ code: 'custom', path: ['type'], message: 'must be the same as name' });
    }
  });

const toolsetParams = z
  .strictObject({
    type: z.literal('agent_toolset_20260401'),
    default_config: z
      .strictObject({ enabled: z.boolean().nullish(), permission_policy: permissionPolicy.nullish() })
      .nullish(),
    configs: z.array(toolConfigParams).max(64).nullish(),
  })
  .superRefine((toolset, context) => {
    const enabledByDefault = toolset.default_config?.enabled ?? true;
    const seen = new Set<string>();
    for (const [index, config] of (toolset.configs ?? []).entries()) {
      const path = ['configs', index, 'name'];
      if (seen.has(config.name))
        context.addIssue({ code: 'custom', path, message: `${config.name} is there twice` });
      seen.add(config.name);
      const isWeb = (webTools as readonly string[]).includes(config.name);
      if (isWeb && (config.enabled ?? enabledByDefault)) {
        const message = unavailable(`${config.name} is`, 'leave it out or send enabled: false');
        context.addIssue({ code: 'custom', path, message });
      }
    }
  });

const customToolName = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[A-Za-z0-9_-]+$/, 'only letters, digits, _ and -');

/** Which JSON Schemas a tool may have is `tools/custom.ts`'s to say; here it is only an object. */
const customToolSchema = z.looseObject({ type: z.literal('object') });

const customToolParams = z.strictObject({
  type: z.literal('custom'),
  name: customToolName,
  description: z.string().min(1).max(16_384),
  input_schema: customToolSchema,
});

const toolParam = z.discriminatedUnion('type', [toolsetParams, customToolParams], {
  error: (issue) =>
    (issue.input as { type?: unknown } | null)?.type === 'mcp_toolset'
      ? unavailable('MCP toolsets are', 'give the agent a custom tool that your client answers')
      : undefined,
});

export const toolParams = z
  .array(toolParam)
  .max(256)
  .superRefine((tools, context) => {
    const names = new Set<string>();
    for (const [index, tool] of tools.entries()) {
      const name = tool.type === 'custom' ? tool.name : tool.type;
      if (names.has(name))
        context.addIssue({ code: 'custom', path: [index], message: `${name} is there twice` });
      names.add(name);
    }
  });

const toolConfig = z.looseObject({
  type: z.string(),
  name: z.string(),
  enabled: z.boolean(),
  permission_policy: permissionPolicy,
});

export const toolset = z.looseObject({
  type: z.literal('agent_toolset_20260401'),
  default_config: z.looseObject({ enabled: z.boolean(), permission_policy: permissionPolicy }),
  configs: z.array(toolConfig),
});

export const customTool = z.looseObject({
  type: z.literal('custom'),
  name: z.string(),
  description: z.string(),
  input_schema: z.looseObject({ type: z.literal('object') }),
});

export const tool = z.discriminatedUnion('type', [toolset, customTool]);

export type ToolParams = z.infer<typeof toolParams>;
export type ToolsetParams = z.infer<typeof toolsetParams>;
export type Tool = z.infer<typeof tool>;
