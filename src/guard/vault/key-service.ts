/**
 * The key-encryption key in an external service, over a small HTTP port (docs/design/vault.md):
 *
 * - `POST <url>/wrap {"plaintext","context"}` → `{"key_id","ciphertext"}`
 * - `POST <url>/unwrap {"key_id","ciphertext","context"}` → `{"plaintext"}`
 * - `POST <url>/rotate {}` → `{"key_id"}`
 *
 * Bytes are base64, `context` is text the service may bind. What it answers is not believed (S4): a wrapped key that
 * shows the key, or does not open again, is refused before anything is sealed under it. Nothing of an answer is in an
 * error (S1).
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { Place } from '../../store/seal.ts';
import { keyBytes } from '../../store/seal.ts';
import type { Kek, WrappedKey } from './kek.ts';
import { KekUnavailable } from './kek.ts';
import type { Outbound } from './oauth/outbound.ts';

export type KeyService = {
  /** Without a slash at its end. */
  url: string;
  /** Sent as a bearer token; null where the service knows us otherwise. */
  token: string | null;
  send: Outbound;
};

const base64 = z
  .string()
  .max(8192)
  .regex(/^[A-Za-z0-9+/]+={0,2}$/);
const keyId = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[\x21-\x7e]+$/);
const wrappedAnswer = z.looseObject({ key_id: keyId, ciphertext: base64 });
const plainAnswer = z.looseObject({ plaintext: base64 });
const rotatedAnswer = z.looseObject({ key_id: keyId });

export function keyServiceKek(service: KeyService): Kek {
  const unwrap = async ({ keyId, wrapped }: WrappedKey, place: Place): Promise<Uint8Array> => {
    const ciphertext = Buffer.from(wrapped).toString('base64');
    const body = { key_id: keyId, ciphertext, context: contextOf(place) };
    const answer = await ask(service, 'unwrap', body, plainAnswer);
    const key = Buffer.from(answer.plaintext, 'base64');
    if (key.length !== keyBytes) throw new KekUnavailable('the key service unwrapped something else');
    return key;
  };
  return {
    unwrap,
    async wrap(dataKey, place) {
      const plaintext = Buffer.from(dataKey).toString('base64');
      const body = { plaintext, context: contextOf(place) };
      const answer = await ask(service, 'wrap', body, wrappedAnswer);
      const wrapped = Buffer.from(answer.ciphertext, 'base64');
      if (wrapped.includes(Buffer.from(dataKey)) || wrapped.includes(plaintext))
        throw new KekUnavailable('the key service gave the key back unwrapped');
      const again = await unwrap({ keyId: answer.key_id, wrapped }, place);
      if (!timingSafeEqual(digest(again), digest(dataKey)))
        throw new KekUnavailable('what the key service wrapped does not open again');
      return { keyId: answer.key_id, wrapped };
    },
    advance: async () => (await ask(service, 'rotate', {}, rotatedAnswer)).key_id,
  };
}

async function ask<T>(
  { url, token, send }: KeyService,
  verb: string,
  body: object,
  schema: z.ZodType<T>,
): Promise<T> {
  const answer = await send({
    url: `${url}/${verb}`,
    headers: {
      'content-type': 'application/json',
      accept: 'application/json',
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  });
  if (answer.kind !== 'response')
    throw new KekUnavailable(`the key service can not be reached: ${answer.message}`);
  if (answer.status !== 200)
    throw new KekUnavailable(`the key service answered ${verb} with ${answer.status}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(answer.body);
  } catch {
    parsed = undefined;
  }
  const result = schema.safeParse(parsed);
  if (!result.success) throw new KekUnavailable(`the key service answered ${verb} with something else`);
  return result.data;
}

function contextOf(place: Place): string {
  return JSON.stringify(place);
}

function digest(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}
