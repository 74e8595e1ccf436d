/**
 * What a session may reach: the words that engine, guard and gateway share. Plain data, so that it can be pinned in a
 * log and compared.
 *
 * Semantics (rules.ts decides, property-tested)
 * - A host pattern is a bare name (`example.com`: that name alone), `*.example.com` (one label or more below it, never
 *   the name itself), or an IPv4 address. Compared without case and without a trailing dot. No other wildcard.
 *   An address is reached by number only where a rule names it, whatever `otherwise` says.
 * - Of all rules that match, deny wins over ask, ask over allow; order means nothing. None matches: `otherwise`. Where a
 *   person's answer allows, nothing is asked any more.
 * - A rule with `methods` or `paths` speaks of HTTP requests; its host is terminated, and each request is decided.
 *   Bytes that are not HTTP cannot match it.
 */

export type RuleEffect = 'allow' | 'ask' | 'deny';

export type NetworkRule = {
  /** Names it in events: `allowed_hosts[2]`, `package_managers`, `rules[0]`, `approved:example.com`. */
  id: string;
  effect: RuleEffect;
  /** A person's answer to what was asked: stands above ask, below deny. */
  isAnswer?: true;
  hosts: string[];
  /** Null: 80 and 443; for a deny, every port. */
  ports: number[] | null;
  /** Upper-case HTTP methods; null: any. */
  methods: string[] | null;
  /** Of the request's path, without its query: literal, with `*` for one segment's rest and `**` for any rest. Null: any. */
  paths: string[] | null;
};

export type NetworkPolicy = {
  rules: NetworkRule[];
  /** For what no rule matches. `allow` is an unrestricted environment; private addresses stay refused. */
  otherwise: RuleEffect;
  caps: NetworkCaps;
};

export type NetworkCaps = {
  /** Both ways, for one host, for the session's life; null: none. */
  bytesPerHost: number | null;
  connectionsPerHost: number;
  connections: number;
};

export const defaultCaps: NetworkCaps = { bytesPerHost: null, connectionsPerHost: 64, connections: 256 };

/** A secret and where it may go. Exists in the vault and in the gateway's memory, nowhere else (S1). */
export type BoundCredential = {
  /** Of the credential resource; named in events, never the value. */
  id: string;
  /** What the sandbox sees; shaped like the real thing, unique to the session. */
  placeholder: string;
  secret: string;
  /** Host patterns. */
  hosts: string[];
};
