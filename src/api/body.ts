/**
 * Request bodies as JSON, read with suspicion: bounded bytes while they come, real UTF-8, bounded depth, no key that
 * could reach a prototype, no text that could not be written back. What passes is safe for everything behind it.
 */
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import type { Json } from '../protocol/json.ts';

/** Deep enough for any JSON schema by hand; far from any stack's end. */
export const maxDepth = 128;

/** The parsed body; `undefined` where there is none. */
export async function readJson(
  request: Request,
  maxBytes: number,
): Promise<{ value: Json | undefined } | Problem> {
  const headers = headerProblem(request.headers);
  if (headers) return headers;
  const bytes = await readBytes(request, maxBytes);
  if ('problem' in bytes) return bytes;
  if (bytes.data.length === 0) return { value: undefined };
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.data);
  } catch {
    return problem('body_encoding_invalid', 'The body is not valid UTF-8.');
  }
  if (text.trim() === '') return { value: undefined };
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return problem('invalid_request', 'The body is not valid JSON.');
  }
  const flaw = flawIn(value);
  return flaw === null ? { value } : problem('invalid_request', flaw);
}

function headerProblem(headers: Headers): Problem | null {
  const encoding = headers.get('content-encoding');
  if (encoding !== null && encoding.trim().toLowerCase() !== 'identity') {
    return problem(
      'body_encoding_unsupported',
      `content-encoding ${encoding} is not supported: send the body as it is.`,
    );
  }
  const type = headers.get('content-type');
  if (type === null) return null;
  const [media = '', ...parameters] = type.split(';').map((part) => part.trim().toLowerCase());
  const charset = parameters
    .find((part) => part.startsWith('charset='))
    ?.slice('charset='.length)
    .replaceAll('"', '');
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8') {
    return problem('unsupported_charset', `charset ${charset} is not supported: send UTF-8.`);
  }
  return media === 'application/json' || media.endsWith('+json')
    ? null
    : problem('invalid_request', `content-type ${media} is not supported here: send application/json.`);
}

async function readBytes(request: Request, maxBytes: number): Promise<{ data: Uint8Array } | Problem> {
  const tooLarge = problem('too_large', `The body is larger than ${maxBytes} bytes.`);
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes) return tooLarge;
  if (!request.body) return { data: new Uint8Array() };
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of request.body) {
      size += chunk.byteLength;
      if (size > maxBytes) return tooLarge;
      chunks.push(chunk);
    }
  } catch {
    return problem('invalid_request', 'The body ended before it was whole.');
  }
  return { data: Buffer.concat(chunks) };
}

/** Iterative, so that no input can exhaust the stack. */
function flawIn(root: Json): string | null {
  const open: { value: Json; depth: number }[] = [{ value: root, depth: 1 }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { value, depth } = next;
    if (typeof value === 'string' && !value.isWellFormed()) return 'The body holds a lone surrogate.';
    if (value === null || typeof value !== 'object') continue;
    if (depth > maxDepth) return `The body is nested deeper than ${maxDepth} levels.`;
    if (!Array.isArray(value)) {
      for (const key of Object.keys(value)) {
        if (key === '__proto__') return '__proto__: unknown field';
        if (!key.isWellFormed()) return 'The body holds a lone surrogate.';
      }
    }
    for (const child of Object.values(value)) open.push({ value: child, depth: depth + 1 });
  }
  return null;
}
