/**
 * The guard: the one door for every action of every tool kind (G1). Everything that wants to act asks here, with the
 * same four words; nothing decides beside it.
 *
 * Contract: `decide` is pure and never throws; what it cannot judge is `ask`, never `allow` (S4).
 */

import type { JsonObject } from '../protocol/json.ts';
import type { PinnedTool, ToolPolicy } from '../session/events.ts';

export type Principal = { type: 'agent'; id: string; version: number; session: string };
export type Action = { type: 'tool.call'; tool: string; kind: 'builtin' | 'custom' };
export type ResourceRef = { type: 'sandbox'; session: string } | { type: 'client'; session: string };
export type Context = { input: JsonObject; tools: PinnedTool[] };

export type Decision = {
  permission: 'allow' | 'ask' | 'deny';
  /** The rule that said so, as the protocol shows it; absent where the tool is not enabled at all. */
  evaluation?: { type: ToolPolicy };
  /** For the agent and for people, where the answer is deny. */
  reason?: string;
};

export type Decide = (
  principal: Principal,
  action: Action,
  resource: ResourceRef,
  context: Context,
) => Decision;

/** The protocol's own policies (managed-agents-protocol.md §5.6): per tool, always_allow or always_ask. */
export const decide: Decide = (_principal, action, _resource, context) => {
  const tool = context.tools.find((pinned) => pinned.name === action.tool && pinned.kind === action.kind);
  if (!tool) return { permission: 'deny', reason: `Permission to use ${action.tool} has been denied.` };
  switch (tool.policy) {
    case 'always_allow':
      return { permission: 'allow', evaluation: { type: 'always_allow' } };
    case 'always_ask':
      return { permission: 'ask', evaluation: { type: 'always_ask' } };
    default:
      return { permission: 'ask', reason: `Policy of ${action.tool} is not known to this version.` };
  }
};
