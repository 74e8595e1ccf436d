/**
 * One process per state folder: a kernel lock (flock), held by a tiny child of ours because Node has no flock itself.
 * It cannot go stale: the kernel drops it with the child, and the child ends with our end of its stdin.
 */
import { spawn } from 'node:child_process';

export type Lock = { isHeld: true; release(): void; lost: Promise<void> } | { isHeld: false; reason: string };

const HELD_BY_ANOTHER = 75;

/** `groups`: cgroups to remove when we are gone, as pairs of folder and prefix. */
export async function takeLock(launch: string, file: string, groups: string[]): Promise<Lock> {
  const child = spawn(launch, ['--hold-lock', file, ...groups], {
    stdio: ['pipe', 'pipe', 'ignore'],
    env: {},
  });
  const ended = new Promise<number | string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code) => resolve(code ?? 'killed'));
  });
  child.stdin.on('error', () => {});
  const locked = new Promise<true>((resolve) => child.stdout.once('data', () => resolve(true)));
  const first = await Promise.race([locked, ended]);
  if (first === true) {
    child.unref();
    return { isHeld: true, release: () => child.stdin.end(), lost: ended.then(() => {}) };
  }
  const reason =
    first === HELD_BY_ANOTHER ? 'another process serves this state folder' : `cannot lock ${file}: ${first}`;
  return { isHeld: false, reason };
}
