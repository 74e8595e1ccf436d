/**
 * The key-encryption key in files: the first version is derived from the store's master key, so nothing else has to be
 * kept or handed around; later versions are files `vault-<version>.key` (32 bytes, 0600) beside it. The last one in the
 * order of names wraps. One file a version, never rewritten: no two writers can lose each other's key.
 *
 * S1: whoever has the database alone opens no secret.
 */
import type { KeyObject } from 'node:crypto';
import { createSecretKey, hkdfSync, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { writeDurableFile } from '../../store/durable-files.ts';
import type { Place } from '../../store/seal.ts';
import { keyBytes, openText, sealText } from '../../store/seal.ts';
import type { Kek } from './kek.ts';
import { KekUnavailable } from './kek.ts';

const firstVersion = 'master';
const fileName = /^vault-([a-z0-9][a-z0-9-]{0,60})\.key$/;

export type KeyFiles = {
  /** The store's; later versions lie in its folder. */
  masterKeyFile: string;
  /** False in a fleet: its processes may not see each other's files, so its operator brings a new version to all. */
  mayMake: boolean;
  nowMs(): number;
};

/** A key for one purpose, derived from the master key. */
export function derivedKey(masterKeyFile: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', readKey(masterKeyFile), '', `scriptorium ${purpose}`, keyBytes));
}

export function keyFilesKek({ masterKeyFile, mayMake, nowMs }: KeyFiles): Kek {
  const folder = path.dirname(masterKeyFile);
  const first = createSecretKey(derivedKey(masterKeyFile, 'vault key'));
  const keyOf = (version: string): KeyObject =>
    version === firstVersion ? first : createSecretKey(readKey(path.join(folder, `vault-${version}.key`)));
  return {
    async wrap(dataKey, place) {
      const keyId = newestIn(folder);
      const text = Buffer.from(dataKey).toString('base64');
      return { keyId, wrapped: sealText(keyOf(keyId), placeOf(keyId, place), text) };
    },
    async unwrap({ keyId, wrapped }, place) {
      if (keyId !== firstVersion && !fileName.test(`vault-${keyId}.key`))
        throw new KekUnavailable(`the vault key ${keyId.slice(0, 80)} is not one of the key files`);
      const key = keyOf(keyId);
      try {
        return Buffer.from(openText(key, placeOf(keyId, place), wrapped), 'base64');
      } catch {
        throw new KekUnavailable(`a data key does not open under vault key ${keyId}`);
      }
    },
    async advance() {
      if (!mayMake) return newestIn(folder);
      const time = new Date(nowMs())
        .toISOString()
        .replace(/[^0-9TZ]/g, '')
        .toLowerCase();
      const version = `${time}-${randomBytes(4).toString('hex')}`;
      try {
        writeDurableFile(path.join(folder, `vault-${version}.key`), randomBytes(keyBytes), 0o600);
      } catch (error) {
        throw new KekUnavailable(`a new vault key could not be written: ${codeOf(error)}`);
      }
      return version;
    },
  };
}

function placeOf(keyId: string, place: Place): Place {
  return ['vault key', keyId, ...place];
}

function newestIn(folder: string): string {
  const versions = readdirSync(folder).flatMap((name) => fileName.exec(name)?.[1] ?? []);
  return versions.sort().at(-1) ?? firstVersion;
}

function readKey(file: string): Buffer {
  let key: Buffer;
  try {
    key = readFileSync(file);
  } catch (error) {
    throw new KekUnavailable(`${path.basename(file)} can not be read: ${codeOf(error)}`);
  }
  if (key.length !== keyBytes)
    throw new KekUnavailable(`${path.basename(file)} is not ${keyBytes} bytes long`);
  return key;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
}
