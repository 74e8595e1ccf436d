/** What is wrong with a request, in one line that names the place: `tools.0.configs.1.permision_policy: unknown field`. */
import type { z } from 'zod';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';

type Issue = z.core.$ZodIssue;

/** More lines than this help nobody. */
const maxIssues = 5;

export function problemOf(error: z.ZodError, input: unknown): Problem {
  const lines = [...new Set(error.issues.flatMap((issue) => linesOf(issue, [], input)))];
  const shown = lines.slice(0, maxIssues);
  if (lines.length > shown.length) shown.push(`and ${lines.length - shown.length} more`);
  const message = shown.join('; ');
  if (lines.every((line) => line.startsWith('metadata'))) return problem('invalid_metadata', message);
  const isMissing = lines.every((line) => line.includes('not available in this version'));
  return problem(isMissing ? 'not_supported' : 'invalid_request', message);
}

function linesOf(issue: Issue, before: PropertyKey[], root: unknown): string[] {
  const path = [...before, ...issue.path];
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => `${shown([...path, key])}: unknown field`);
  if (issue.code === 'invalid_key') return [`${shown(path)}: ${issue.issues[0]?.message ?? issue.message}`];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) return unionLines(issue.errors, path, root);
  return [path.length === 0 ? issue.message : `${shown(path)}: ${messageOf(issue, valueAt(root, path))}`];
}

function messageOf(issue: Issue, value: unknown): string {
  return issue.code === 'invalid_type' && value === undefined ? 'is required' : issue.message;
}

/** Of several alternatives, the one that came furthest is the one that was meant. */
function unionLines(branches: Issue[][], path: PropertyKey[], root: unknown): string[] {
  const meant = branches.filter((issues) => !issues.some((issue) => isWrongKind(issue)));
  const best = (meant.length > 0 ? meant : branches).toSorted((a, b) => a.length - b.length)[0] ?? [];
  if (meant.length === 0)
    return [`${shown(path)}: ${branches.map((b) => b[0]?.message ?? 'invalid').join(' or ')}`];
  return best.flatMap((issue) => linesOf(issue, path, root));
}

function isWrongKind(issue: Issue): boolean {
  return issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value');
}

function valueAt(root: unknown, path: PropertyKey[]): unknown {
  let value = root;
  for (const key of path) {
    if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** Keys come from outside: bounded, and without control characters. */
function shown(path: PropertyKey[]): string {
  const text = path.map((key) => String(key).replace(/[\0-\x1f\x7f]/g, '?')).join('.');
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
