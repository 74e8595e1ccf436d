/**
 * From what an environment says about the network to the rules that its gateway keeps (S2). Pure: the session pins the
 * environment, so the same rules come out whenever it is opened again.
 */
import { defaultCaps, type NetworkPolicy, type NetworkRule } from '../gateway/policy.ts';
import { packageRegistries } from '../gateway/presets.ts';
import { compilePolicy } from '../gateway/rules.ts';
import type { Networking } from '../protocol/environments.ts';
import type { NetworkAnswer } from '../session/state.ts';

/** `answers`: what people said about hosts that were asked for, the newest last. `mcpHosts`: of the agent's servers. */
export function networkPolicy(
  networking: Networking,
  answers: readonly NetworkAnswer[],
  mcpHosts: readonly string[],
): NetworkPolicy {
  if (networking.type === 'unrestricted') return { rules: [], otherwise: 'allow', caps: defaultCaps };
  const { allowed_hosts, allow_mcp_servers, allow_package_managers, rules = [] } = networking;
  return {
    rules: [
      ...allowed_hosts.map((host, at) => allow(`allowed_hosts[${at}]`, [host])),
      ...(allow_package_managers
        ? [allow('allow_package_managers', Object.values(packageRegistries).flat())]
        : []),
      ...(allow_mcp_servers && mcpHosts.length > 0 ? [allow('allow_mcp_servers', mcpHosts)] : []),
      ...rules.map((rule, at): NetworkRule => ({ id: `rules[${at}]`, ...ruleOf(rule) })),
      ...answered(answers),
    ],
    otherwise: networking.unknown_hosts ?? 'deny',
    caps: { ...defaultCaps, bytesPerHost: networking.max_bytes_per_host ?? null },
  };
}

/** Whether there is anything that could be reached; without, no gateway is needed. */
export function reachesNobody(policy: NetworkPolicy): boolean {
  return policy.otherwise === 'deny' && !policy.rules.some(({ effect }) => effect !== 'deny');
}

/** What a gateway would refuse of these rules, with the field; null where it takes them. Better heard when they are written. */
export function networkProblem(networking: Networking): string | null {
  const compiled = compilePolicy(networkPolicy(networking, [], []));
  return 'problem' in compiled ? `config.networking: ${compiled.field} ${compiled.problem}` : null;
}

function allow(id: string, hosts: readonly string[]): NetworkRule {
  return { id, effect: 'allow', hosts: [...hosts], ports: null, methods: null, paths: null };
}

function ruleOf(
  rule: NonNullable<Extract<Networking, { type: 'limited' }>['rules']>[number],
): Omit<NetworkRule, 'id'> {
  const { effect, hosts, ports, methods, paths } = rule;
  return { effect, hosts, ports, methods, paths };
}

/** A person's yes is to that host alone, and to the port that was asked for. */
function answered(answers: readonly NetworkAnswer[]): NetworkRule[] {
  return answers.map(({ host, port, result }) => ({
    id: `answered:${host}`,
    effect: result,
    isAnswer: true as const,
    hosts: [host],
    ports: port === undefined ? null : [port],
    methods: null,
    paths: null,
  }));
}
