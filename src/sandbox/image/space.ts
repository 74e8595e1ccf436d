/** A build writes to the host's own disk: one that takes too much of it ends, before the disk is full for everybody. */
import { statfsSync } from 'node:fs';
import type { GuestLink } from '../guest/link.ts';

const everyMs = 100;
const usualMostBytes = 8 * 1024 ** 3;
/** Left for the host's journals, whatever a build may take. */
const leaveBytes = 512 * 1024 ** 2;

/** Watches until the sandbox ends. What others write meanwhile counts, too: nobody can tell without looking inside (S3). */
export function guardSpace(folder: string, mostBytes: number | undefined, link: GuestLink): void {
  const most = mostBytes ?? usualMostBytes;
  const before = freeBytes(folder);
  const timer = setInterval(() => {
    const free = freeBytes(folder);
    if (before - free > most) link.end(`the build took more than ${most} bytes of the disk`);
    else if (free < leaveBytes) link.end('the disk of the host is nearly full');
  }, everyMs).unref();
  void link.ended.then(() => clearInterval(timer));
}

function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}
