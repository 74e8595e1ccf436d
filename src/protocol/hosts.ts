/** Host patterns as people write them (managed-agents-protocol.md §3, §8): a bare name, `*.` and a name, or an IPv4 address. */
import { z } from 'zod';

const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;
const ipv4 = /^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;

/** What is wrong with a pattern, in words that say what to write instead; null where nothing is. */
export function hostProblem(pattern: string): string | null {
  if (/:\/\//.test(pattern)) return 'a host without a scheme: example.com, not https://example.com';
  if (pattern.includes('/')) return 'a host without a path; paths belong into a rule';
  if (pattern.includes(':')) return 'a host without a port (and no IPv6): ports belong into a rule';
  const name = pattern.startsWith('*.') ? pattern.slice(2) : pattern;
  if (name.includes('*')) return 'a wildcard is only possible as the first label: *.example.com';
  if (/^[\d.]+$/.test(name) && !ipv4.test(name)) return 'not an IPv4 address';
  if (ipv4.test(name)) return pattern === name ? null : 'an address takes no wildcard';
  const labels = name.replace(/\.$/, '').split('.');
  if (name.length > 253 || !labels.every((one) => label.test(one)))
    return 'a host name of letters, digits and hyphens (write international names in their xn-- form)';
  if (pattern !== name && labels.length < 2) return 'a wildcard for a whole top-level domain is too wide';
  return null;
}

export const hostPattern = z
  .string()
  .max(255)
  .refine((host) => hostProblem(host) === null, {
    error: (issue) => hostProblem(String(issue.input)) ?? 'not a host',
  });
