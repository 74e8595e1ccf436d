/**
 * Who may speak on a link, from one shared secret and without certificates.
 *
 * - Every engine and api holds the cluster secret. Whoever else is let in has a token, `identity.key`, whose key is
 *   HMAC-SHA256(secret, identity): any holder of the secret can check any token, and a token opens no other identity.
 * - The key proves both sides to each other (TLS-PSK) and never travels: to an api a host shows a MAC over the hour of the
 *   day, so that even a listener on plain HTTP learns nothing that opens a link (S1).
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

/**
 * What a process on a link may do follows from its identity: hosts offer sandboxes, gateways are told secrets, apis ask for
 * what engines know. Host and gateway of a machine have the same name and each a key of its own: what parses the words of
 * sandboxes can never be told a secret (S1).
 */
export const apiIdentity = 'api';
const hostPrefix = 'host-';
const gatewayPrefix = 'gateway-';
const identityForm = /^(?:api|(?:host|gateway)-[a-z0-9][a-z0-9-]{0,40})$/;
const keyForm = /^[A-Za-z0-9_-]{43}$/;
/** Clocks of machines differ; a proof that is older opens nothing. */
const proofAgeMs = 5 * 60_000;
const leastSecretChars = 32;

export type Token = { identity: string; key: Buffer };

/** A secret or a token that cannot be used, with words for the operator. */
export class BadSecret extends Error {
  override name = 'BadSecret';
}

export function readClusterSecret(file: string): Buffer {
  const text = read(file);
  if (text.length < leastSecretChars)
    throw new BadSecret(
      `${file} holds no secret of ${leastSecretChars} characters; make one: openssl rand -hex 32`,
    );
  return Buffer.from(text);
}

export function readToken(file: string): Token {
  const token = parseToken(read(file));
  if (token === null) throw new BadSecret(`${file} holds no token; mint one: scriptorium host-token`);
  return token;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new BadSecret(`${file} cannot be read: ${(error as Error).message}`);
  }
}

export function keyOf(secret: Buffer, identity: string): Buffer {
  return createHmac('sha256', secret).update(`scriptorium link 1\n${identity}`).digest();
}

/** Null for what is no identity of ours. */
export function keyOfPeer(secret: Buffer, identity: string): Buffer | null {
  return identityForm.test(identity) ? keyOf(secret, identity) : null;
}

/** The name in a host's identity; null where it is another's. */
export function hostNameOf(identity: string): string | null {
  return nameIn(identity, hostPrefix);
}

/** The name in a gateway's identity, which is that of the host beside it; null where it is another's. */
export function gatewayNameOf(identity: string): string | null {
  return nameIn(identity, gatewayPrefix);
}

function nameIn(identity: string, prefix: string): string | null {
  return identity.startsWith(prefix) && identityForm.test(identity) ? identity.slice(prefix.length) : null;
}

export function mintHostToken(secret: Buffer, name: string = randomBytes(5).toString('hex')): string {
  return mint(secret, hostPrefix, name);
}

/** For the gateway on the machine of the host of that name. */
export function mintGatewayToken(secret: Buffer, name: string): string {
  return mint(secret, gatewayPrefix, name);
}

function mint(secret: Buffer, prefix: string, name: string): string {
  const identity = prefix + name;
  if (!identityForm.test(identity))
    throw new BadSecret('a host is named with a-z, 0-9 and hyphens, at most 41 of them');
  return `${identity}.${keyOf(secret, identity).toString('base64url')}`;
}

export function parseToken(text: string): Token | null {
  const [identity = '', key = '', ...more] = text.split('.');
  if (more.length > 0 || !identityForm.test(identity) || !keyForm.test(key)) return null;
  return { identity, key: Buffer.from(key, 'base64url') };
}

/** What a host or gateway sends as `Authorization` when it asks an api whom to dial. */
export function joinProof(token: Token, nowMs: number): string {
  return `Scriptorium-Host ${token.identity}.${nowMs}.${macOf(token, nowMs).toString('base64url')}`;
}

/** The identity that made the proof; null for nobody. */
export function whoProved(secret: Buffer, header: string, nowMs: number): string | null {
  const found = /^Scriptorium-Host ([a-z0-9-]{1,64})\.(\d{13})\.([A-Za-z0-9_-]{43})$/.exec(header);
  const [, identity = '', time = '', mac = ''] = found ?? [];
  const key = keyOfPeer(secret, identity);
  if (key === null || Math.abs(nowMs - Number(time)) > proofAgeMs) return null;
  const isGenuine = timingSafeEqual(Buffer.from(mac, 'base64url'), macOf({ identity, key }, Number(time)));
  return isGenuine ? identity : null;
}

function macOf({ identity, key }: Token, timeMs: number): Buffer {
  return createHmac('sha256', key).update(`join\n${identity}\n${timeMs}`).digest();
}
