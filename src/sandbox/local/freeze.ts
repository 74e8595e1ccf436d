/**
 * Holds still what runs in a sandbox, and lets it go on: SIGSTOP to every process below the guest's supervisors, from
 * outside, since a control group of the sandbox would hold its guest as well.
 *
 * A process that is stopped forks no more, so a few rounds reach a fixed point. The guest and its supervisors are never
 * stopped: they go on to answer, and to kill.
 */
import { readdirSync, readFileSync } from 'node:fs';

const maxRounds = 20;
/** The guest is PID 1 of its own namespace; below it are supervisors, below those what the session runs. */
const guestForm = /^NSpid:(?:\t\d+)+\t1$/m;

type Process = { pid: number; parent: number };

/** Everything below `launch` that a session started is stopped; the answer lets it go on. */
export function freezeBelow(launch: number): () => void {
  const stopped = new Set<number>();
  for (let round = 0; round < maxRounds; round++) {
    const fresh = programsBelow(launch).filter((pid) => !stopped.has(pid));
    if (fresh.length === 0) break;
    for (const pid of fresh) if (signal(pid, 'SIGSTOP')) stopped.add(pid);
  }
  return () => {
    // Only those that are still ours: a number may be another's by now.
    for (const pid of programsBelow(launch)) if (stopped.has(pid)) signal(pid, 'SIGCONT');
  };
}

function programsBelow(launch: number): number[] {
  const children = new Map<number, number[]>();
  for (const { pid, parent } of processes()) children.set(parent, [...(children.get(parent) ?? []), pid]);
  const guest = below(launch, children).find((pid) => guestForm.test(readOrEmpty(`/proc/${pid}/status`)));
  if (guest === undefined) return [];
  return (children.get(guest) ?? []).flatMap((supervisor) => below(supervisor, children));
}

function below(root: number, children: Map<number, number[]>): number[] {
  const found: number[] = [];
  const open = [root];
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    const direct = children.get(pid) ?? [];
    found.push(...direct);
    open.push(...direct);
  }
  return found;
}

function processes(): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    // The name of a program may hold anything, parentheses too: what counts is behind the last one.
    const stat = readOrEmpty(`/proc/${name}/stat`);
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
    return Number.isInteger(parent) && stat !== '' ? [{ pid: Number(name), parent }] : [];
  });
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function signal(pid: number, name: 'SIGSTOP' | 'SIGCONT'): boolean {
  try {
    process.kill(pid, name);
    return true;
  } catch {
    // It ended meanwhile.
    return false;
  }
}
