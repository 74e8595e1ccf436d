/**
 * Host names and host patterns, parsed once and compared exactly (S2).
 *
 * A name is compared in one form only: lower case, no trailing dot, internationalised labels as punycode. A pattern is
 * a name, `*.` and a name of two labels or more, or an IPv4 address in four decimal parts. `*` alone and `*.com` are
 * refused: they say "anywhere", which is what `otherwise` is for. There is no list of public suffixes here, so
 * `*.co.uk` passes; whoever writes it means it.
 */
import { isIPv4 } from 'node:net';
import { domainToASCII } from 'node:url';

export type HostPattern = {
  /** `name`: that name alone. `below`: one label or more below it. `address`: that IPv4 address. */
  kind: 'name' | 'below' | 'address';
  host: string;
};

/** What is wrong, and in which field of what was sent. Says what to write instead. */
export type FieldProblem = { field: string; problem: string };

const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** The one form of a name, or null where it is no name: not an address, not `localhost:80`, not a label of 64 bytes. */
export function canonicalName(text: string): string | null {
  const bare = text.endsWith('.') ? text.slice(0, -1) : text;
  // An IDN is folded by the URL standard's rules; plain ASCII goes past them, for they also read `0x7f.1` and `%41`.
  const ascii = /^[\x20-\x7e]*$/.test(bare) ? bare.toLowerCase() : foldInternational(bare);
  if (ascii.length === 0 || ascii.length > 253) return null;
  const labels = ascii.split('.');
  if (!labels.every((one) => label.test(one))) return null;
  // `127.1`, `0x7f000001`, `1.2.3.4`: some resolver reads each of them as an address.
  if (/^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '')) return null;
  return ascii;
}

function foldInternational(text: string): string {
  return /[\s%:/?#@[\]\\]/.test(text) ? '' : domainToASCII(text);
}

/** A name in its one form, or an IPv4 address as it is; null for anything else. */
export function canonicalHost(text: string): string | null {
  return isIPv4(text) ? text : canonicalName(text);
}

/** `field` is where the text stood, for the error: `rules[2].hosts[0]`. */
export function parsePattern(text: string, field: string): HostPattern | FieldProblem {
  const wrong = (problem: string): FieldProblem => ({ field, problem });
  if (typeof text !== 'string' || text === '') return wrong('is empty; write a host name, like example.com');
  if (text.length > 512) return wrong('is too long for a host name');
  if (text.includes('://')) return wrong('is a URL; write the host name alone, without scheme and path');
  if (text.includes('/')) return wrong('has a slash; write the host name alone, and paths in `paths`');
  if (text.startsWith('[') || text.split(':').length > 2) {
    return wrong('is an IPv6 address; only names and IPv4 addresses can be reached');
  }
  if (text.includes(':')) return wrong('has a port; write the port in `ports`');
  if (isIPv4(text)) return { kind: 'address', host: text };
  if (text === '*') return wrong('is every host; say `otherwise` instead, or name the hosts');
  const below = text.startsWith('*.');
  const rest = below ? text.slice(2) : text;
  if (rest.includes('*')) return wrong('has a wildcard inside; only `*.` in front of a name is one');
  const host = canonicalName(rest);
  if (host === null) return wrong('is no host name; letters, digits, hyphens and dots make one');
  if (below && !host.includes('.')) return wrong(`is everything under .${host}; name the hosts`);
  return { kind: below ? 'below' : 'name', host };
}

export function isProblem(value: object): value is FieldProblem {
  return 'problem' in value;
}

/** `host` in its one form (canonicalHost). */
export function matchesHost(pattern: HostPattern, host: string): boolean {
  if (pattern.kind !== 'below') return pattern.host === host && (pattern.kind === 'address') === isIPv4(host);
  // The dot is part of the comparison: `notexample.com` is not below `example.com`, and neither is the name itself.
  return host.endsWith(`.${pattern.host}`);
}
