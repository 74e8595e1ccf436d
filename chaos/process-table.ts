/** The processes of this machine, as whoever must end what it started needs them: also the demo. */
import { readdirSync, readFileSync } from 'node:fs';

/**
 * Process ids whose command line has `folder` as an argument of its own. The folder is one that only we know. With `program`,
 * only those that run it: a host has helpers that name its folder, too, and come and go.
 */
export function processesNaming(folder: string, program = ''): number[] {
  const pids: number[] = [];
  for (const entry of safely(() => readdirSync('/proc')) ?? []) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    const args = safely(() => readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0'));
    if (args?.includes(folder) && args.some((one) => one.includes(program))) pids.push(Number(entry));
  }
  return pids;
}

/** False where the process is gone already. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  return safely(() => process.kill(pid, name)) ?? false;
}

function safely<T>(act: () => T): T | null {
  try {
    return act();
  } catch {
    return null;
  }
}
