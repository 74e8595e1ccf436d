// One bootstrap at a time per checkout: two `npm ci` in one folder destroy each other.

import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { BootstrapError } from './machine.mjs';

const WAIT_LIMIT_MS = 10 * 60_000;
const POLL_MS = 100;

export function withLock(root, say, work) {
  const file = path.join(root, '.bootstrap.lock');
  acquire(file, say);
  const release = () => rmSync(file, { force: true });
  process.once('exit', release);
  try {
    return work();
  } finally {
    process.removeListener('exit', release);
    release();
  }
}

function acquire(file, say) {
  const startMs = Date.now();
  let announced = false;
  while (!tryAcquire(file)) {
    const owner = ownerOf(file);
    if (owner !== undefined && !isAlive(owner)) {
      rmSync(file, { force: true });
      continue;
    }
    if (Date.now() - startMs > WAIT_LIMIT_MS) {
      throw new BootstrapError(
        `process ${owner} has held ${file} for ten minutes; end it or delete the file`,
      );
    }
    if (!announced) say(`waiting for another bootstrap (process ${owner})`);
    announced = true;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
  }
}

/** Linking a finished file makes name and content appear in one step: no reader ever sees a lock without an owner. */
function tryAcquire(file) {
  const mine = `${file}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    linkSync(mine, file);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(mine, { force: true });
  }
}

function ownerOf(file) {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10);
  } catch {
    return undefined;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
