/**
 * A host started by hand gives up what one that we start never has: the right to look into other processes, the gateway's
 * memory among them (S1). See `launch --confined`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { findPrograms } from './programs.ts';

const capSysPtrace = 1n << 19n;

/** Becomes the same command, confined, where it is not; otherwise returns. */
export function confine(): void {
  const { launch } = findPrograms();
  if (process.getuid?.() !== 0 || !existsSync(launch) || !process.execve) return;
  const bounding = /^CapBnd:\s*([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  if ((BigInt(`0x${bounding}`) & capSysPtrace) === 0n) return;
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  process.execve(launch, [launch, '--confined', ...command], process.env);
}
