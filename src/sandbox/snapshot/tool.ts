/**
 * Programs of the system that disks are made with, started by the launcher: an empty environment, no descriptor but the
 * first three, and where it is said, the mount namespace of the disks.
 *
 * Promise: whatever goes wrong is `DiskRefused` with the program's own words; a full disk is told from all else.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { DiskRefused } from './disk.ts';

export type ToolInput = {
  launch: string;
  /** Options of the launcher. */
  launchArgs?: string[];
  program: string;
  args: string[];
  /** Descriptors of this process; it sees nothing without them. */
  stdin?: number;
  stdout?: number;
};

const MAX_WORDS = 4096;
/** tar says of a write that came to an end half way only how far it came. */
const noSpace = /No space left on device|Disk quota exceeded|Wrote only \d+ of \d+ bytes/;

/** Not PATH: what has the host's rights must not depend on who starts the host, and how. */
const folders = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin', '/usr/local/bin'];

/** Null where it is not installed. */
export function findTool(name: string): string | null {
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file)) ?? null;
}

/** Throws `DiskRefused` with what to install. */
export function needTool(name: string, packageName: string): string {
  const found = findTool(name);
  if (found !== null) return found;
  throw new DiskRefused('isolation_unavailable', `${name} is not installed: install ${packageName}`);
}

/** Its stdout (unless that is a descriptor of ours) and stderr, when it ended well. */
export function runTool(input: ToolInput): Promise<{ stdout: string; stderr: string }> {
  const { launch, launchArgs = [], program, args } = input;
  const child = spawn(launch, [...launchArgs, '--', program, ...args], {
    env: {},
    cwd: '/',
    stdio: [input.stdin ?? 'ignore', input.stdout ?? 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    if (stdout.length < 1 << 20) stdout += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    if (stderr.length < MAX_WORDS) stderr += chunk.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(new DiskRefused('io_error', error.message)));
    child.once('close', (code, signal) => {
      if (code === 0) return resolve({ stdout, stderr });
      const words = stderr.trim().split('\n').slice(-3).join('; ') || `exit ${code ?? signal}`;
      const kind = noSpace.test(stderr) ? 'no_space' : 'io_error';
      reject(new DiskRefused(kind, `${program}: ${words}`));
    });
  });
}
