/**
 * A credential's secrets as they are stored: each field under a data key made for this one writing, the data key wrapped
 * by the key-encryption key (envelope encryption).
 *
 * - S1: organisation, project, vault, credential and field are bound to every ciphertext: what is moved to another row
 *   or field does not open.
 * - A row has no history: it is deleted and written anew in one append, so nothing old is left to open.
 */
import { createSecretKey, randomBytes } from 'node:crypto';
import type { JsonObject } from '../../protocol/json.ts';
import type { Place } from '../../store/seal.ts';
import { keyBytes, openText, sealText } from '../../store/seal.ts';
import type { Resource, ResourcePut, Tenant } from '../../store/store.ts';
import type { Kek, WrappedKey } from './kek.ts';
import { KekUnavailable } from './kek.ts';

export const secretKind = 'vault_secret';

export type SecretPlace = Tenant & { vault: string; credential: string };

/** What is written down of a credential: `token`, `access_token`, `refresh_token`, `client_secret`, `secret_value`, `shape`. */
export type SecretFields = Record<string, string>;

/** Who refreshes a token now, so that nobody else does (oauth/refresh.ts). */
export type RefreshLease = { id: string; untilMs: number };

/** Why the last refresh gave nothing, and when another may be tried; null: not before the credential is changed. */
export type RefreshFailure = { message: string; retryAtMs: number | null };

export type SecretBody = {
  vault_id: string;
  key_id: string;
  wrapped_key: string;
  fields: Record<string, string>;
  lease: RefreshLease | null;
  failure: RefreshFailure | null;
};

export async function sealSecret(kek: Kek, place: SecretPlace, fields: SecretFields): Promise<SecretBody> {
  const dataKey = randomBytes(keyBytes);
  const { keyId, wrapped } = await kek.wrap(dataKey, placeOf(place, 'data key'));
  const key = createSecretKey(dataKey);
  dataKey.fill(0);
  const sealed = Object.entries(fields).map(([name, value]) => [
    name,
    base64(sealText(key, placeOf(place, `field ${name}`), value)),
  ]);
  return {
    vault_id: place.vault,
    key_id: keyId,
    wrapped_key: base64(wrapped),
    fields: Object.fromEntries(sealed),
    lease: null,
    failure: null,
  };
}

/** Rejects with `KekUnavailable` where a field is not the one sealed for this place. */
export async function openSecret(kek: Kek, place: SecretPlace, body: SecretBody): Promise<SecretFields> {
  const key = createSecretKey(await kek.unwrap(wrappedOf(body), placeOf(place, 'data key')));
  try {
    const opened = Object.entries(body.fields).map(([name, sealed]) => [
      name,
      openText(key, placeOf(place, `field ${name}`), Buffer.from(sealed, 'base64')),
    ]);
    return Object.fromEntries(opened);
  } catch {
    throw new KekUnavailable(`the secret of ${place.credential} does not open`);
  }
}

/** The same secrets, their data key wrapped anew. The secrets themselves are not opened. */
export async function rewrapSecret(kek: Kek, place: SecretPlace, body: SecretBody): Promise<SecretBody> {
  const dataKey = await kek.unwrap(wrappedOf(body), placeOf(place, 'data key'));
  const { keyId, wrapped } = await kek.wrap(dataKey, placeOf(place, 'data key'));
  dataKey.fill(0);
  return { ...body, key_id: keyId, wrapped_key: base64(wrapped) };
}

export function secretPut(credential: string, body: SecretBody, time: string): ResourcePut {
  const life = { createdAt: time, updatedAt: time, archivedAt: null, uniqueName: null };
  return { kind: secretKind, id: credential, version: 1, body: body as unknown as JsonObject, ...life };
}

export function secretBodyOf(row: Resource): SecretBody {
  return row.body as unknown as SecretBody;
}

function wrappedOf(body: SecretBody): WrappedKey {
  return { keyId: body.key_id, wrapped: Buffer.from(body.wrapped_key, 'base64') };
}

function placeOf({ organization, project, vault, credential }: SecretPlace, what: string): Place {
  return ['vault', organization, project, vault, credential, what];
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
