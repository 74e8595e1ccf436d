/**
 * A session's credentials as they are used: hosts parsed, values checked. Errors name the credential, never a value (S1).
 */
import { type FieldProblem, type HostPattern, isProblem } from './pattern.ts';
import type { BoundCredential } from './policy.ts';
import { parseHosts } from './rules.ts';

export type CompiledCredential = { id: string; placeholder: string; secret: string; hosts: HostPattern[] };

/** A shorter value turns up in a body by chance, and is then taken out of it. */
export const minValueLength = 8;
export const maxValueLength = 16_384;

export function compileCredentials(given: readonly BoundCredential[]): CompiledCredential[] | FieldProblem {
  const compiled: CompiledCredential[] = [];
  for (const [at, one] of given.entries()) {
    const field = `credentials[${at}]`;
    const problem =
      valueProblem(one.secret, `${field}.secret`) ?? valueProblem(one.placeholder, `${field}.placeholder`);
    if (problem) return problem;
    const hosts = parseHosts(one.hosts, `${field}.hosts`);
    if (isProblem(hosts)) return hosts;
    if (one.placeholder.includes(one.secret)) {
      return { field: `${field}.placeholder`, problem: 'holds the secret' };
    }
    const { id, placeholder, secret } = one;
    compiled.push({ id, placeholder, secret, hosts });
  }
  for (const [at, one] of compiled.entries()) {
    const mixed = compiled.some((other) => other !== one && other.placeholder.includes(one.placeholder));
    if (mixed) return { field: `credentials[${at}].placeholder`, problem: 'is part of another placeholder' };
  }
  return compiled;
}

function valueProblem(value: string, field: string): FieldProblem | null {
  if (value.length < minValueLength)
    return { field, problem: `is shorter than ${minValueLength} characters` };
  if (value.length > maxValueLength) return { field, problem: `is longer than ${maxValueLength} characters` };
  // It becomes a header's value; what cannot stand in one must not tear one open.
  return /^[\x20-\x7e]+$/.test(value) ? null : { field, problem: 'has characters that no header can hold' };
}
