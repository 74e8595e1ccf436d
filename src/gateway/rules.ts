/**
 * Decides by a session's policy (S2, S4): what may be resolved, connected to, and requested. Pure.
 *
 * Of all rules that match, deny wins over ask, ask over allow; the order of rules changes nothing, not even which id is
 * named (the least of the winners). A host that no rule with an IPv4 pattern names cannot be reached by address, not
 * even where `otherwise` allows: an address says nothing about whose it is.
 */
import { isIPv4 } from 'node:net';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import { type FieldProblem, type HostPattern, isProblem, matchesHost, parsePattern } from './pattern.ts';
import type { NetworkPolicy, NetworkRule, RuleEffect } from './policy.ts';
import { matchesPath, type PathPattern, parsePathPattern, readPath } from './request-path.ts';

type Rule = {
  id: string;
  effect: RuleEffect;
  isAnswer: boolean;
  hosts: HostPattern[];
  ports: number[] | null;
  methods: string[] | null;
  paths: PathPattern[] | null;
};

/** A policy with its patterns parsed. */
export type Rules = { list: Rule[]; otherwise: RuleEffect };

export type Decision = { effect: RuleEffect; rule: string | null; reason: string | null };

/** `perRequest`: some rule speaks of requests here, so only HTTP may pass, and each request is decided. */
export type ConnectionDecision = Decision & { perRequest: boolean };

export type HttpRequestLine = { method: string; target: string };

const effects: RuleEffect[] = ['deny', 'ask', 'allow'];
const webPorts = [80, 443];
const token = /^[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}$/;

/** Unknown ids, effects or malformed patterns come back as the first problem, with its field. */
export function compilePolicy(policy: NetworkPolicy): Rules | FieldProblem {
  if (!effects.includes(policy.otherwise))
    return { field: 'otherwise', problem: 'is none of allow, ask, deny' };
  const list: Rule[] = [];
  for (const [at, rule] of policy.rules.entries()) {
    const compiled = compileRule(rule, `rules[${at}]`);
    if (isProblem(compiled)) return compiled;
    list.push(compiled);
  }
  return { list, otherwise: policy.otherwise };
}

function compileRule(rule: NetworkRule, field: string): Rule | FieldProblem {
  if (rule.id === '') return { field: `${field}.id`, problem: 'is empty; decisions name it' };
  if (!effects.includes(rule.effect)) {
    return { field: `${field}.effect`, problem: 'is none of allow, ask, deny' };
  }
  // An empty list matches nothing: a deny that denies nothing must not look like one that does (S4).
  for (const name of ['hosts', 'ports', 'methods', 'paths'] as const) {
    if (rule[name]?.length === 0) {
      return { field: `${field}.${name}`, problem: 'is an empty list, which matches nothing' };
    }
  }
  const hosts = parseHosts(rule.hosts, `${field}.hosts`);
  if (isProblem(hosts)) return hosts;
  const badPort = rule.ports?.findIndex((port) => !Number.isInteger(port) || port < 1 || port > 65_535) ?? -1;
  if (badPort >= 0) return { field: `${field}.ports[${badPort}]`, problem: 'is no port; 1 to 65535 are' };
  const badMethod = rule.methods?.findIndex((method) => !token.test(method)) ?? -1;
  if (badMethod >= 0) return { field: `${field}.methods[${badMethod}]`, problem: 'is no upper-case method' };
  const paths: PathPattern[] = [];
  for (const [at, text] of (rule.paths ?? []).entries()) {
    const parsed = parsePathPattern(text, `${field}.paths[${at}]`);
    if (isProblem(parsed)) return parsed;
    paths.push(parsed);
  }
  const { id, effect, ports, methods, isAnswer = false } = rule;
  return { id, effect, isAnswer, hosts, ports, methods, paths: rule.paths === null ? null : paths };
}

/** Every pattern parsed, or the first that is none. */
export function parseHosts(texts: readonly string[], field: string): HostPattern[] | FieldProblem {
  const parsed = texts.map((text, at) => parsePattern(text, `${field}[${at}]`));
  return parsed.find(isProblem) ?? parsed.filter((one): one is HostPattern => !isProblem(one));
}

/** May the name be told an address? Only where some connection or request to it could be allowed or asked for. */
export function mayResolve(rules: Rules, host: string): boolean {
  const ports = rules.list.flatMap((rule) => (hostMatches(rule, host) ? (rule.ports ?? []) : []));
  // 0 stands for every port that no rule names.
  return [...webPorts, 0, ...ports].some((port) => decideConnection(rules, host, port).effect !== 'deny');
}

/** What is known before a byte has been read. `host` in its one form. */
export function decideConnection(rules: Rules, host: string, port: number): ConnectionDecision {
  if (failpoints.on && sabotaged('sabotage.any-connection'))
    return { effect: 'allow', rule: null, reason: null, perRequest: false };
  const here = rules.list.filter((rule) => matchesPlace(rule, host, port));
  const requests = here.filter(ofRequests);
  const plain = conclude(
    rules,
    here.filter((rule) => !ofRequests(rule)),
    host,
  );
  if (requests.length === 0 || (plain.effect === 'deny' && plain.rule !== 'otherwise')) {
    return { ...plain, perRequest: requests.length > 0 };
  }
  const hopeful = plain.effect === 'deny' ? requests.find((rule) => rule.effect !== 'deny') : undefined;
  if (plain.effect === 'deny' && hopeful === undefined) return { ...plain, perRequest: true };
  return { effect: 'allow', rule: hopeful?.id ?? plain.rule, reason: null, perRequest: true };
}

/** What is decided for one request, or for a connection of other bytes (no request given). */
export function decide(
  rules: Rules,
  where: { host: string; port: number; request?: HttpRequestLine },
): Decision {
  const { host, port, request } = where;
  const here = rules.list.filter((rule) => matchesPlace(rule, host, port));
  const segments = request ? readPath(request.target) : null;
  // `OPTIONS *` names no path, so no rule with paths can mean it; the other rules decide.
  const pathless = request?.method === 'OPTIONS' && request.target === '*';
  if (request && !segments && !pathless && here.some((rule) => rule.paths !== null)) {
    return { effect: 'deny', rule: null, reason: 'the path can be read in two ways' };
  }
  const matching = here.filter((rule) => {
    if (!ofRequests(rule)) return true;
    if (!request) return false;
    if (rule.methods && !rule.methods.includes(request.method.toUpperCase())) return false;
    return !rule.paths || (segments !== null && rule.paths.some((path) => matchesPath(path, segments)));
  });
  return conclude(rules, matching, host);
}

function conclude(rules: Rules, all: readonly Rule[], host: string): Decision {
  const isAnswered = all.some(({ effect, isAnswer }) => effect === 'allow' && isAnswer);
  const matching = isAnswered ? all.filter(({ effect }) => effect !== 'ask') : all;
  for (const effect of effects) {
    const ids = matching.filter((rule) => rule.effect === effect).map((rule) => rule.id);
    const least = ids.reduce<string | null>((low, id) => (low === null || id < low ? id : low), null);
    if (least !== null)
      return { effect, rule: least, reason: effect === 'deny' ? `denied by ${least}` : null };
  }
  if (isIPv4(host)) return { effect: 'deny', rule: 'otherwise', reason: 'no rule names this address' };
  const { otherwise } = rules;
  return {
    effect: otherwise,
    rule: 'otherwise',
    reason: otherwise === 'deny' ? 'no rule names this host and port' : null,
  };
}

function hostMatches(rule: Rule, host: string): boolean {
  return rule.hosts.some((pattern) => matchesHost(pattern, host));
}

function matchesPlace(rule: Rule, host: string, port: number): boolean {
  // A deny without ports denies the host as a whole: who denies a host does not mean "on two ports" (S4).
  const ports = rule.ports ?? (rule.effect === 'deny' ? null : webPorts);
  return (ports === null || ports.includes(port)) && hostMatches(rule, host);
}

function ofRequests(rule: Rule): boolean {
  return rule.methods !== null || rule.paths !== null;
}

/** Does some rule for this place name methods? Then a header that renames the method is refused as well. */
export function speaksOfMethods(rules: Rules, host: string, port: number): boolean {
  return rules.list.some((rule) => rule.methods !== null && matchesPlace(rule, host, port));
}

/** Must TLS to this place end in the gateway: for a secret that is bound to it, or a rule about requests? */
export function needsTermination(
  rules: Rules,
  credentials: readonly { hosts: readonly HostPattern[] }[],
  host: string,
  port: number,
): boolean {
  const bound = credentials.some((one) => one.hosts.some((pattern) => matchesHost(pattern, host)));
  return bound || decideConnection(rules, host, port).perRequest;
}

/** Has some rule an IPv4 pattern for this address? Only then may it be reached by address. */
export function namesAddress(rules: Rules, address: string): boolean {
  return rules.list.some(({ hosts }) => hosts.some((one) => one.kind === 'address' && one.host === address));
}
