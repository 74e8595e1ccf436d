/**
 * Sealing and commitments, the same for every engine.
 *
 * Promises kept here
 * - Erasure: a payload is readable only with its stream's key. The key is wrapped by the master key and kept in one
 *   row; without that row the payload is noise, and its commitment (salted) tells nothing about it.
 * - G4: `leafHash` is over clear columns only, so a leaf can be checked by someone who can read no payload, before and
 *   after erasure.
 *
 * Sealed bytes: 1 (format) || nonce (12) || AES-256-GCM ciphertext || tag (16). The additional data names the place a
 * payload belongs to, so a payload that is moved to another event, stream or column does not open.
 */

import type { KeyObject } from 'node:crypto';
import { createCipheriv, createDecipheriv, createSecretKey, hash, randomBytes } from 'node:crypto';
import type { Json } from '../protocol/json.ts';
import { canonicalJson } from '../protocol/json.ts';
import type { TextSnapshot } from './as-text.ts';
import type { StoredEvent } from './store.ts';

const format = 1;
const nonceBytes = 12;
const tagBytes = 16;
const saltBytes = 16;
export const keyBytes = 32;

/** Where sealed bytes belong: they open nowhere else. */
export type Place = readonly string[];

export type SealedPayload = { sealed: Uint8Array; commitment: Uint8Array };

/** Members of an envelope that a leaf is made of: all that is in clear. */
export type LeafHeader = Omit<StoredEvent, 'public' | 'private' | 'leafHash' | 'erased'>;

/** Random bytes are drawn in blocks: a system call for each nonce and salt costs more than the cipher. */
const randomBlockBytes = 4_096;
let randomBlock = Buffer.alloc(0);

function freshBytes(sizeBytes: number): Buffer {
  if (randomBlock.length < sizeBytes) randomBlock = randomBytes(randomBlockBytes);
  const bytes = randomBlock.subarray(0, sizeBytes);
  randomBlock = randomBlock.subarray(sizeBytes);
  return bytes;
}

function seal(key: KeyObject, place: Place, plaintext: Uint8Array): Uint8Array {
  const nonce = freshBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  cipher.setAAD(Buffer.from(JSON.stringify(place)));
  const body = cipher.update(plaintext);
  const rest = cipher.final();
  return Buffer.concat([Buffer.of(format), nonce, body, rest, cipher.getAuthTag()]);
}

/** Throws where the key, the place or a byte is not the one sealed. */
function open(key: KeyObject, place: Place, sealed: Uint8Array): Buffer {
  if (sealed[0] !== format) throw new Error(`sealed bytes of unknown format ${sealed[0]}`);
  const nonce = sealed.subarray(1, 1 + nonceBytes);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(JSON.stringify(place)));
  decipher.setAuthTag(sealed.subarray(sealed.length - tagBytes));
  const body = decipher.update(sealed.subarray(1 + nonceBytes, sealed.length - tagBytes));
  return Buffer.concat([body, decipher.final()]);
}

export function masterKeyOf(bytes: Uint8Array): KeyObject {
  return createSecretKey(bytes);
}

/** A new key of a stream, and the form in which it is stored. */
export function newStreamKey(masterKey: KeyObject, stream: string): { key: KeyObject; wrapped: Uint8Array } {
  const bytes = randomBytes(keyBytes);
  return { key: createSecretKey(bytes), wrapped: seal(masterKey, [stream, 'key'], bytes) };
}

export function unwrapStreamKey(masterKey: KeyObject, stream: string, wrapped: Uint8Array): KeyObject {
  return createSecretKey(open(masterKey, [stream, 'key'], wrapped));
}

/** `text` is the payload's JSON as it will be read back; the commitment is over its canonical form `value`. */
export function sealPayload(key: KeyObject, place: Place, text: string, value: Json): SealedPayload {
  const salt = freshBytes(saltBytes);
  const sealed = seal(key, place, Buffer.concat([salt, Buffer.from(text)]));
  return { sealed, commitment: payloadCommitment(salt, value) };
}

export function openPayload(
  key: KeyObject,
  place: Place,
  sealed: Uint8Array,
): { salt: Uint8Array; text: string } {
  const plaintext = open(key, place, sealed);
  return { salt: plaintext.subarray(0, saltBytes), text: plaintext.toString('utf8', saltBytes) };
}

/** For texts that no proof speaks of (summaries). */
export function sealText(key: KeyObject, place: Place, text: string): Uint8Array {
  return seal(key, place, Buffer.from(text));
}

export function openText(key: KeyObject, place: Place, sealed: Uint8Array): string {
  return open(key, place, sealed).toString();
}

/**
 * A stream's summary, for those who read it. It is a projection (L1): one that does not open, or whose key does not,
 * hides its own stream and no other one of a list, and fsck names it.
 */
export function openSummary(
  keyOf: () => KeyObject | null,
  stream: string,
  sealed: Uint8Array,
): string | null {
  try {
    const key = keyOf();
    return key === null ? null : openText(key, [stream, 'summary'], sealed);
  } catch {
    return null;
  }
}

/** Its number and reader are part of its place: it can not be passed off as another one. */
export function sealSnapshot(key: KeyObject, stream: string, snapshot: TextSnapshot): Uint8Array {
  return sealText(key, snapshotPlace(stream, snapshot), snapshot.data);
}

/** A cache: one that does not open is as good as none. */
export function openSnapshot(
  keyOf: () => KeyObject | null,
  stream: string,
  row: { seq: number; reader: number; data: Uint8Array },
): TextSnapshot | null {
  try {
    const key = keyOf();
    return key === null ? null : { ...row, data: openText(key, snapshotPlace(stream, row), row.data) };
  } catch {
    return null;
  }
}

function snapshotPlace(stream: string, { seq, reader }: { seq: number; reader: number }): Place {
  return [stream, 'snapshot', String(seq), String(reader)];
}

export function payloadCommitment(salt: Uint8Array, value: Json): Uint8Array {
  return hash('sha256', Buffer.concat([salt, Buffer.from(canonicalJson(value))]), 'buffer');
}

/** sha256(0x00 || canonical JSON of the clear envelope and the commitments in hex). 0x00 marks a leaf (RFC 9162). */
export function leafHash(
  header: LeafHeader,
  commitments: { public: string; private: string | null },
): Uint8Array {
  // Canonical as it stands: a flat object whose members are written in the order of their names.
  const leaf = JSON.stringify({
    actor: header.actor,
    audience: header.audience,
    call: header.call,
    causation: header.causation,
    fence: header.fence,
    id: header.id,
    organization: header.organization,
    privateCommitment: commitments.private,
    project: header.project,
    publicCommitment: commitments.public,
    schemaVersion: header.schemaVersion,
    seq: header.seq,
    stream: header.stream,
    thread: header.thread,
    time: header.time,
    turn: header.turn,
    type: header.type,
  });
  return hash('sha256', `\0${leaf}`, 'buffer');
}
