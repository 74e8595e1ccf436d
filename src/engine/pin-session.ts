/**
 * What a session pins at its creation: the tools it may call and the prefix of every request (L7). Rendered once, kept in
 * the log, so that an upgrade changes no running session.
 */
import type { SessionAgent } from '../protocol/agents.ts';
import type { EnvironmentConfig, Networking } from '../protocol/environments.ts';
import type { Isolation } from '../protocol/isolation.ts';
import type { JsonObject } from '../protocol/json.ts';
import { managers } from '../sandbox/image/recipe.ts';
import type { PinnedTool, RepositoryPin, ToolPolicy } from '../session/events.ts';
import type { RequestPrefix, ToolSchema } from '../session/model-request.ts';
import { builtinTools, toolSchemas } from '../tools/toolset.ts';

export type PinRequest = {
  sessionId: string;
  agent: SessionAgent;
  isolation: Isolation;
  repository: RepositoryPin | null;
  /** Absolute paths of files that stand read-only in the sandbox. */
  mounts: string[];
  environment: { config: Pick<EnvironmentConfig, 'networking'> & Partial<EnvironmentConfig> };
};

/** Pure. Throws only on an agent whose tools were not resolved: a bug of the caller. */
export function pinSession(request: PinRequest): { prefix: RequestPrefix; tools: PinnedTool[] } {
  const builtin = builtinOf(request.agent);
  const custom = customOf(request.agent);
  const schemas: ToolSchema[] = [...toolSchemas(builtin.map(({ name }) => name)), ...custom];
  const tools = [
    ...builtin,
    ...custom.map(({ name }): PinnedTool => ({ kind: 'custom', name, policy: 'always_allow', isPure: true })),
  ];
  const { model } = request.agent;
  return {
    prefix: {
      model: model.id,
      effort: model.effort?.type ?? null,
      instructions: instructionsOf(request, builtin.length > 0),
      tools: schemas,
      maxOutputTokens: null,
      cacheKey: request.sessionId,
    },
    tools,
  };
}

function builtinOf(agent: SessionAgent): PinnedTool[] {
  const toolset = agent.tools.find((tool) => tool.type === 'agent_toolset_20260401');
  if (toolset?.type !== 'agent_toolset_20260401') return [];
  return builtinTools.flatMap((tool): PinnedTool[] => {
    const config = toolset.configs.find(({ name }) => name === tool.name) ?? toolset.default_config;
    if (!config.enabled) return [];
    const policy: ToolPolicy = config.permission_policy.type;
    return [{ kind: 'builtin', name: tool.name, policy, isPure: tool.effect === 'pure' }];
  });
}

function customOf(agent: SessionAgent): ToolSchema[] {
  return agent.tools.flatMap((tool) =>
    tool.type === 'custom'
      ? [{ name: tool.name, description: tool.description, inputSchema: tool.input_schema as JsonObject }]
      : [],
  );
}

/** The environment as it really is; nothing that this version does not do. */
function instructionsOf(request: PinRequest, hasHands: boolean): string {
  const parts: string[] = [];
  if (request.agent.system) parts.push(request.agent.system.trim());
  if (hasHands) parts.push(environmentText(request));
  return parts.join('\n\n');
}

function environmentText(request: PinRequest): string {
  const lines = [
    '# Environment',
    request.isolation === 'none'
      ? 'You work on a Linux machine WITHOUT isolation, by its operator’s choice. Change nothing outside your workspace.'
      : `You work in a sealed Linux sandbox of your own. ${networkText(request.environment.config.networking)}`,
    request.repository
      ? `The repository of the task is in ${request.repository.mountPath}, as its owner left it: what was uncommitted still is.`
      : 'Your working directory is /workspace.',
    ...request.mounts.map((path) => `${path} is a file given to you (read-only).`),
    'Put files meant for people, other than changes to the repository, into /mnt/session/outputs.',
    'The workspace, the outputs and your home directory last as long as the session; /tmp and running processes may not.',
    'git, a shell and the usual tools of the machine are there; `node` is Node.js 24.',
    ...layerText(request.environment.config),
    'Work until the task is done, check your work by running it, and finish with a short summary of what you did.',
  ];
  return lines.join('\n');
}

const mostPackagesNamed = 60;

/** What the environment adds, so that the model does not try to install it. */
function layerText({ packages, files = [], setup = [] }: Partial<EnvironmentConfig>): string[] {
  const named = managers.flatMap((one) => (packages?.[one] ?? []).map((spec) => `${one} ${spec}`));
  if (named.length === 0 && files.length === 0 && setup.length === 0) return [];
  const shown = named.slice(0, mostPackagesNamed).join(', ');
  const more = named.length > mostPackagesNamed ? ` and ${named.length - mostPackagesNamed} more` : '';
  const what = shown === '' ? '' : ` Installed there: ${shown}${more}.`;
  return [`/opt/env (read-only, on the PATH) is what this environment adds to the machine.${what}`];
}

const mostHostsNamed = 40;

/** What the gateway will let through, so that the model does not spend its time on what it will not. */
function networkText(networking: Networking): string {
  if (networking.type === 'unrestricted') return 'It reaches the internet, but no private network.';
  const { allowed_hosts, allow_package_managers, rules = [], unknown_hosts } = networking;
  const ruled = rules.flatMap(({ effect, hosts }) => (effect === 'deny' ? [] : hosts));
  const hosts = [...new Set([...allowed_hosts, ...ruled])];
  const asks = unknown_hosts === 'ask';
  if (hosts.length === 0 && !allow_package_managers && !asks)
    return 'It has no network at all: nothing can be downloaded or installed.';
  const named = hosts.slice(0, mostHostsNamed);
  const more = hosts.length > named.length ? ` and ${hosts.length - named.length} more` : '';
  const reachable = [
    ...(hosts.length > 0 ? [`${named.join(', ')}${more}`] : []),
    ...(allow_package_managers ? ['the registries of the usual package managers'] : []),
  ];
  const rest = asks
    ? 'Any other host is asked of a person first, which takes time'
    : 'Nothing else can be reached';
  return `Of the network it reaches ${reachable.length > 0 ? reachable.join(' and ') : 'nothing by itself'}. ${rest}; proxies need not be set.`;
}
