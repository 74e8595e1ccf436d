/**
 * The master key: 32 random bytes in `<dir>/keys/master.key` (0600) that wrap every stream's key. It is made once, at
 * first boot, and never again while the database holds anything sealed under it: a fresh key beside old logs would
 * look like a working store whose past is unreadable.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { makeDurableDirectory, writeDurableFile } from './durable-files.ts';
import type { Refusal } from './refusals.ts';
import { keyBytes } from './seal.ts';

export function masterKeyPath(directory: string): string {
  return path.join(directory, 'keys', 'master.key');
}

/** Reads the key of a fleet. It is never made here: every process has to have the same. */
export function readMasterKey(
  file: string,
): { status: 'ok'; key: Uint8Array } | { status: 'refused'; refusal: Refusal } {
  try {
    const key = readFileSync(file);
    if (key.length === keyBytes) return { status: 'ok', key };
    return { status: 'refused', refusal: { kind: 'master_key_wrong', path: file } };
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    return { status: 'refused', refusal: { kind: 'master_key_missing', path: file } };
  }
}

/** Reads the key, or makes it where the database has no streams yet. The caller holds the directory's lock. */
export function loadMasterKey(
  directory: string,
  hasStreams: boolean,
): { status: 'ok'; key: Uint8Array } | { status: 'refused'; refusal: Refusal } {
  const file = masterKeyPath(directory);
  let key: Uint8Array;
  try {
    key = readFileSync(file);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    if (hasStreams) return { status: 'refused', refusal: { kind: 'master_key_missing', path: file } };
    key = randomBytes(keyBytes);
    makeDurableDirectory(path.dirname(file), 0o700);
    writeDurableFile(file, key, 0o600);
  }
  if (key.length !== keyBytes)
    return { status: 'refused', refusal: { kind: 'master_key_wrong', path: file } };
  return { status: 'ok', key };
}
