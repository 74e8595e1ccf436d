/**
 * The path of a request as rules see it (S2, S4). Two readers of one path must not see two resources, so a path that
 * servers are known to read in different ways is not interpreted but refused, wherever a rule speaks of paths.
 */
import type { FieldProblem } from './pattern.ts';

export type PathPattern = { segments: string[]; anyRest: boolean };

/**
 * `/repos/*` is one segment (or its rest: `/v*`), `/repos/**` is everything below, the empty rest too; the wildcards
 * stand at the end of a segment and of the pattern. Case counts. Literal parts may be written percent-encoded.
 */
export function parsePathPattern(text: string, field: string): PathPattern | FieldProblem {
  const wrong = (problem: string): FieldProblem => ({ field, problem });
  if (!text.startsWith('/')) return wrong('must begin with a slash');
  if (/[?#]/.test(text)) return wrong('has a query or a fragment; rules see the path alone');
  const anyRest = text.endsWith('/**');
  const body = anyRest ? text.slice(0, -2) : text;
  if (body.includes('**'))
    return wrong('has `**` in the middle; it stands for any rest, as the last segment');
  const literal = body.replaceAll('*', 'x');
  const plain = readPath(literal);
  if (plain === null) return wrong('can be read in two ways (dots, double slashes, encoded slashes)');
  const segments = (decode(body) ?? '').slice(1).split('/');
  if (segments.some((one) => one.slice(0, -1).includes('*'))) {
    return wrong('has `*` inside a segment; it stands for the rest of one');
  }
  return { segments: anyRest ? segments.slice(0, -1) : segments, anyRest };
}

/**
 * The segments of a request target's path, decoded; null where it can be read in two ways.
 * Takes the target of origin form (`/a/b?c`), the query included.
 */
export function readPath(target: string): string[] | null {
  const path = target.split('?', 1)[0] ?? '';
  if (!path.startsWith('/')) return null;
  // Control characters, spaces and bytes past ASCII have no place in a target; a fragment is never sent.
  if (!/^[\x21-\x7e]+$/.test(path) || /[#\\;]/.test(path)) return null;
  // Encoded slash, backslash, dot, semicolon, percent sign and controls: decoded by one server, kept by the next.
  if (/%(?:2f|5c|2e|3b|25|[01][0-9a-f]|7f)/i.test(path)) return null;
  const decoded = decode(path);
  if (decoded === null) return null;
  const segments = decoded.slice(1).split('/');
  if (segments.slice(0, -1).includes('')) return null;
  if (segments.some((one) => one === '.' || one === '..')) return null;
  return segments;
}

function decode(path: string): string | null {
  try {
    return decodeURIComponent(path).normalize('NFC');
  } catch {
    return null;
  }
}

export function matchesPath(pattern: PathPattern, segments: readonly string[]): boolean {
  const wanted = pattern.segments;
  if (pattern.anyRest ? segments.length <= wanted.length : segments.length !== wanted.length) return false;
  return wanted.every((one, at) => {
    const segment = segments[at] ?? '';
    return one.endsWith('*') ? segment.startsWith(one.slice(0, -1)) : one === segment;
  });
}
