/**
 * What a session pins at its creation: the tools it may call and the prefix of every request (L7). Rendered once, kept in
 * the log, so that an upgrade changes no running session.
 */
import type { JsonObject } from '../protocol/json.ts';
import type { PinnedTool, ToolPolicy } from '../session/events.ts';
import type { Effort, RequestPrefix, ToolSchema } from '../session/model-request.ts';
import { builtinTools, toolSchemas } from '../tools/toolset.ts';

export type PinRequest = {
  session: string;
  model: string;
  effort: Effort | null;
  system: string | null;
  /** Enabled built-in tools with their policies, and custom tools, as resolved by the agent definition. */
  builtin: { name: string; policy: ToolPolicy }[];
  custom: { name: string; description: string; inputSchema: JsonObject }[];
  hasRepository: boolean;
  isolation: 'bubblewrap' | 'none';
};

export function pinSession(request: PinRequest): { prefix: RequestPrefix; tools: PinnedTool[] } {
  const enabled = request.builtin.filter(({ name }) => builtinTools.some((tool) => tool.name === name));
  const tools: PinnedTool[] = [
    ...enabled.map(({ name, policy }): PinnedTool => {
      const isPure = builtinTools.find((tool) => tool.name === name)?.effect === 'pure';
      return { kind: 'builtin', name, policy, isPure };
    }),
    ...request.custom.map(({ name }): PinnedTool => ({ kind: 'custom', name, policy: 'always_allow', isPure: true })),
  ];
  const schemas: ToolSchema[] = [...toolSchemas(enabled.map(({ name }) => name)), ...request.custom];
  const prefix: RequestPrefix = {
    model: request.model,
    effort: request.effort,
    instructions: instructionsOf(request, enabled.length > 0),
    tools: schemas,
    maxOutputTokens: null,
    cacheKey: request.session,
  };
  return { prefix, tools };
}

/** The environment as it really is; nothing that this version does not do. */
function instructionsOf(request: PinRequest, hasHands: boolean): string {
  const parts: string[] = [];
  if (request.system) parts.push(request.system.trim());
  if (hasHands) parts.push(environmentText(request));
  return parts.join('\n\n');
}

function environmentText(request: PinRequest): string {
  const lines = [
    '# Environment',
    request.isolation === 'bubblewrap'
      ? 'You work in a sealed Linux sandbox of your own. It has no network at all: nothing can be downloaded or installed.'
      : 'You work on a Linux machine WITHOUT isolation, by the operator’s choice. Change nothing outside /workspace.',
    request.hasRepository
      ? 'The repository of the task is in /workspace, as its owner left it: uncommitted changes are still uncommitted.'
      : 'Your working directory is /workspace.',
    'Files given to you are in /mnt/session/uploads (read-only); put files meant for people into /mnt/session/outputs.',
    '/workspace, /mnt/session/outputs and your home directory persist for the whole session; /tmp and running processes may not.',
    'git, a shell and the usual tools of the machine are there; `node` is Node.js 24.',
    'Work until the task is done, check your work by running it, and finish with a short summary of what you did.',
  ];
  return lines.join('\n');
}
