/** What the launcher may set at most: it never raises a limit that this process has. */
import { readFileSync } from 'node:fs';
import type { Limits } from '../limits.ts';

/** The limits as a process of ours can have them. */
export function withinOurs(limits: Limits): Limits {
  const hard = /^Max open files +\S+ +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  const openFiles = hard === undefined ? limits.openFiles : Math.min(limits.openFiles, Number(hard));
  return { ...limits, openFiles };
}
