/**
 * The processes of a bench: started here, known by pid, all ended here, also when a measurement fails (S5 holds for the
 * bench, too). Nothing is ever ended by name.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { until } from './clock.ts';
import { load } from './code-under-test.ts';

const lastWords = new WeakMap<ChildProcess, string>();
const endings: (() => Promise<void>)[] = [];

/** Runs at the end of the bench, last in first out. */
export function atEnd(end: () => Promise<void>): void {
  endings.push(end);
}

export async function endAll(): Promise<void> {
  for (const end of endings.splice(0).reverse()) {
    await end().catch((error: unknown) => process.stderr.write(`bench: while ending: ${String(error)}\n`));
  }
}

export async function temporaryFolder(name: string): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), `scriptorium-bench-${name}-`));
  // A host that is just ending still has its folder in use for a moment.
  atEnd(() => rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
  return folder;
}

/** Forked with IPC; stdout is the caller's to read, stderr is kept for `lastWordsOf`. */
export function start(
  file: string,
  args: string[],
  options: { node?: string; flags?: string[]; env?: NodeJS.ProcessEnv },
): ChildProcess {
  const child = fork(file, args, {
    execPath: options.node ?? process.execPath,
    execArgv: ['--disable-warning=ExperimentalWarning', ...(options.flags ?? [])],
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  // What it says is of interest only where it fails; a pipe that nobody reads would stop it.
  child.stderr?.on('data', (chunk: Buffer) => {
    lastWords.set(child, `${lastWords.get(child) ?? ''}${chunk.toString()}`.slice(-2_000));
  });
  atEnd(() => kill(child, 'SIGKILL'));
  return child;
}

export function lastWordsOf(child: ChildProcess): string {
  return lastWords.get(child)?.trim() ?? '';
}

export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Settles when it is gone. */
export async function kill(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (hasEnded(child)) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill(signal);
  await gone;
}

/** The host of a data directory outlives its server; it is asked to end, and by pid if it does not. */
export async function endHost(dataDir: string): Promise<void> {
  const pid = await hostPid(dataDir);
  if (pid === null) return;
  const { findHost } = await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const host = await findHost(path.join(dataDir, 'host'));
  await host?.shutdownHost();
  await host?.close();
  await until('the host to end', 5_000, () => !isAlive(pid)).catch(() => process.kill(pid, 'SIGKILL'));
}

export async function hostPid(dataDir: string): Promise<number | null> {
  const { findHost } = await load<typeof import('../../src/sandbox/host/adopt.ts')>('src/sandbox/host/adopt');
  const host = await findHost(path.join(dataDir, 'host'));
  if (host === null) return null;
  const { pid } = await host.hello();
  await host.close();
  return pid;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export type Memory = { totalMb: number; processes: { pid: number; name: string; pssMb: number }[] };

/** Sum of PSS of these processes and everything below them. */
export function memoryOf(pids: readonly number[]): Memory {
  const all = [...new Set(pids.flatMap(withDescendants))];
  const processes = all.flatMap((pid) => {
    const pssMb = pssOf(pid);
    return pssMb === null ? [] : [{ pid, name: nameOf(pid), pssMb }];
  });
  return { totalMb: processes.reduce((sum, { pssMb }) => sum + pssMb, 0), processes };
}

/** What a process has taken of the processors, all its threads together. */
export function cpuSecondsOf(pid: number): number {
  const stat = read(`/proc/${pid}/stat`) ?? '';
  // After the name, which may hold blanks: user and system time are the 12th and 13th, in hundredths.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function withDescendants(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`) ?? '';
  const below = children.split(' ').filter((text) => text !== '');
  return [pid, ...below.flatMap((child) => withDescendants(Number(child)))];
}

function pssOf(pid: number): number | null {
  const kb = /^Pss:\s+(\d+) kB/m.exec(read(`/proc/${pid}/smaps_rollup`) ?? '')?.[1];
  return kb === undefined ? null : Number(kb) / 1024;
}

function nameOf(pid: number): string {
  const words = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
  return path.basename(words[0] ?? '');
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

export const peerEntry = path.join(import.meta.dirname, 'peer.ts');
