// What every bootstrap step asks of the machine: where the checkout is, which programs exist, running one, stamps.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const checkoutFolder = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Something the person at the keyboard can act on. Anything else that is thrown is a bug of ours. */
export class BootstrapError extends Error {
  name = 'BootstrapError';
}

/** The absolute path of a program on PATH, or undefined. */
export function findProgram(name) {
  // What only root needs lies beside what everybody does, and off a plain user's PATH.
  const folders = (process.env.PATH ?? '').split(path.delimiter).filter((folder) => path.isAbsolute(folder));
  const besides = folders.filter((folder) => path.basename(folder) === 'bin');
  const sbin = besides.map((folder) => path.join(folder, '..', 'sbin'));
  for (const folder of [...folders, ...sbin]) {
    const candidate = path.join(folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // Not here: look in the next folder.
    }
  }
  return undefined;
}

/** Runs a program with its output on our stderr. Returns the exit code; a program that cannot start is 127. */
export function run(program, args, options = {}) {
  const child = spawnSync(program, args, { stdio: ['ignore', 2, 2], ...options });
  if (child.error) return 127;
  return child.status ?? 128;
}

/** What a program prints on stdout, trimmed, or undefined when it fails. */
export function output(program, args, options = {}) {
  const child = spawnSync(program, args, {
    stdio: ['ignore', 'pipe', 'ignore'],
    encoding: 'utf8',
    ...options,
  });
  return child.error || child.status !== 0 ? undefined : child.stdout.trim();
}

/** The environment without node_modules/.bin on PATH: `npm ci` must not run on the very node that it deletes. */
export function environmentOutsideModules() {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const kept = folders.filter((folder) => !folder.split(path.sep).includes('node_modules'));
  return { ...process.env, PATH: kept.join(path.delimiter) };
}

export function hashOf(...parts) {
  const hash = createHash('sha256');
  for (const part of parts) {
    hash.update(part);
    hash.update('\0');
  }
  return hash.digest('hex');
}

export function readOrUndefined(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** A stamp says for which inputs a step was last done. It lives under node_modules, so it goes when they go. */
export function stampMatches(root, name, hash) {
  return readOrUndefined(stampFile(root, name)) === hash;
}

export function writeStamp(root, name, hash) {
  const file = stampFile(root, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(`${file}.${process.pid}`, hash);
  renameSync(`${file}.${process.pid}`, file);
}

function stampFile(root, name) {
  return path.join(root, 'node_modules', `.scriptorium-${name}`);
}
