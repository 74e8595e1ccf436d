/**
 * Query strings as the protocol writes them (§1.5): `types[]=a&types[]=b`, `created_at[gte]=…`; for other clients also
 * repeated without brackets and comma lists. A parameter nobody knows is refused: a filter that is silently ignored
 * gives wrong answers. `beta` is what old SDKs add to every path.
 */
import { z } from 'zod';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import { problemOf } from './issues.ts';

/** A list-valued parameter. */
export function listOf<T extends z.ZodType<unknown, string>>(item: T, max = 100) {
  return z.array(item).max(max);
}

export function readQuery<Q extends z.ZodObject>(url: URL, schema: Q): { query: z.infer<Q> } | Problem {
  const raw: Record<string, string | string[]> = {};
  for (const [given, value] of url.searchParams) {
    if (given === 'beta') continue;
    const name = given.endsWith('[]') ? given.slice(0, -2) : given;
    const field = Object.hasOwn(schema.shape, name) ? schema.shape[name] : undefined;
    if (field === undefined)
      return problem('invalid_request', `query ${given.slice(0, 100)}: unknown parameter`);
    if (isList(field)) {
      const before = raw[name];
      raw[name] = [
        ...(Array.isArray(before) ? before : []),
        ...(given.endsWith('[]') ? [value] : value.split(',')),
      ];
    } else if (Object.hasOwn(raw, name)) {
      return problem('invalid_request', `query ${name}: given twice`);
    } else {
      raw[name] = value;
    }
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return { query: parsed.data };
  const found = problemOf(parsed.error, raw);
  return problem(found.problem, `query ${found.message}`);
}

function isList(field: unknown): boolean {
  let inner = field;
  while (inner instanceof z.ZodOptional) inner = inner.unwrap();
  return inner instanceof z.ZodArray;
}
