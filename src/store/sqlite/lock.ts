/**
 * One owning process per directory. The lock is SQLite's own file lock on `lock.db`, held by a transaction that never
 * ends: Node has no flock, and the kernel frees this one however the process dies.
 *
 * Do not open `lock.db` by other means in the owning process: closing any descriptor of a file drops all POSIX locks
 * the process has on it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Refusal } from '../refusals.ts';
import { primaryCode, sqliteCodes } from './failures.ts';

export type DirectoryLock = { release(): void };

export function lockDirectory(
  directory: string,
): { status: 'ok'; lock: DirectoryLock } | { status: 'refused'; refusal: Refusal } {
  const pidFile = path.join(directory, 'lock.pid');
  const db = new DatabaseSync(path.join(directory, 'lock.db'), { timeout: 0 });
  try {
    db.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    db.close();
    if (primaryCode(error) !== sqliteCodes.busy) throw error;
    return { status: 'refused', refusal: { kind: 'locked', directory, pid: readPid(pidFile) } };
  }
  // Only a hint for the message of whoever comes second; the lock is the truth.
  writeFileSync(pidFile, `${process.pid}\n`);
  return { status: 'ok', lock: { release: () => db.close() } };
}

function readPid(pidFile: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(pidFile, 'utf8'), 10);
    return Number.isSafeInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}
