/**
 * `Idempotency-Key`: asking twice does it once (L2, L3).
 *
 * A keyed act is one `append` whose `request` is the key, and every id it mints is derived from the key. So a repeated
 * request finds the first one's event by its id and gets its answer, whether it comes at the same moment, an hour later
 * or after a restart; the same key with another request is a conflict. Keys belong to the API key that sent them.
 */
import { createHash } from 'node:crypto';
import type { Principal } from '../guard/identity.ts';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import type { IdKind } from '../protocol/ids.ts';
import { idPrefixes, newId } from '../protocol/ids.ts';
import type { Json } from '../protocol/json.ts';
import { canonicalJson } from '../protocol/json.ts';

export type RequestKey = {
  /** For `append`: the key as the store keeps it, and the hash of what was asked. */
  request: { key: string; hash: string };
  /** Derives ids: the same label, the same id. */
  seed: string;
};

type Asked = { request: Request; url: URL; principal: Principal };

/** Null where the request has no key; it is then done as often as it is sent. */
export function requestKeyOf(asked: Asked, body: unknown): RequestKey | Problem | null {
  const given = asked.request.headers.get('idempotency-key');
  if (given === null || asked.request.method === 'GET') return null;
  if (failpoints.on && sabotaged('sabotage.forget-request-key')) return null;
  if (!/^[\x21-\x7e]{1,255}$/.test(given)) {
    return problem('invalid_request', 'Idempotency-Key: 1 to 255 visible ASCII characters.');
  }
  const what: Json = [asked.request.method, asked.url.pathname, (body ?? null) as Json];
  const seed = sha256(`${asked.principal.keyId}\n${given}`);
  return { request: { key: seed, hash: sha256(canonicalJson(what)) }, seed };
}

export const keyReused = problem(
  'idempotency_key_reused',
  'This Idempotency-Key was used for another request. Use a new key for a new request.',
);

/** Mints ids: fresh ones, or those that belong to the request key. */
export type MintId = (kind: IdKind, label: string) => string;

export function minterOf(key: RequestKey | null, nowMs: number): MintId {
  if (key === null) return (kind) => newId(kind, nowMs);
  return (kind, label) =>
    idPrefixes[kind] + crockford(createHash('sha256').update(`${key.seed}\n${kind}\n${label}`).digest());
}

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

function crockford(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 26), (byte) => alphabet[byte & 31]).join('');
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
