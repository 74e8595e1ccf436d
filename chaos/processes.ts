/**
 * The programs a run starts, and that none of them outlives it: each is ended by its process id, sandbox hosts (which
 * a server starts, and which survive it on purpose) by the state folder on their command line.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { processesNaming, signal } from './process-table.ts';

export type Started = {
  child: ChildProcess;
  pid: number;
  /** The one line of JSON that it prints when it is ready. */
  line: Record<string, unknown>;
  /** What it wrote on stderr last. */
  stderr(): string;
};

const readyLimitMs = 30_000;
const keptStderr = 8_000;
const children = new Set<ChildProcess>();

/** A program of the checkout: from source a .ts file, from dist a .js one. */
export function programFile(relative: string): string {
  const here = fileURLToPath(import.meta.url);
  return path.resolve(here, '..', '..', `${relative}${path.extname(here)}`);
}

/** `onSpawn` hears of the process before it is ready: it may never be. */
export async function start(
  args: string[],
  env: Record<string, string>,
  onSpawn: (child: ChildProcess) => void = () => {},
): Promise<Started> {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
    env: { PATH, HOME, ...env },
    // stdin stays open for as long as we live: some of ours end when it closes.
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-keptStderr);
  });
  onSpawn(child);
  const lines = createInterface({ input: child.stdout });
  const first = await Promise.race([
    once(lines, 'line').then(([line]) => String(line)),
    once(child, 'exit').then(([code, signal]) =>
      Promise.reject(new Error(`${args[0]} ended with ${code ?? signal}: ${stderr.trim().slice(-600)}`)),
    ),
    sleep(readyLimitMs, null, { ref: false }).then(() =>
      Promise.reject(new Error(`${args[0]} is not ready`)),
    ),
  ]);
  return {
    child,
    pid: child.pid as number,
    line: JSON.parse(first) as Record<string, unknown>,
    stderr: () => stderr,
  };
}

/** Below those that the system gives to whoever dials out, so that it stays free while its owner is dead. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

export function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** In order where it ends within `patienceMs`; by force then. */
export async function end(child: ChildProcess, patienceMs: number): Promise<void> {
  if (hasEnded(child)) return;
  const gone = once(child, 'exit');
  child.kill('SIGCONT');
  child.kill('SIGTERM');
  await Promise.race([gone, sleep(patienceMs, null, { ref: false })]);
  if (!hasEnded(child)) child.kill('SIGKILL');
  await gone;
}

/** For an exit handler: at once, by force, also what is frozen. */
export function killAll(stateFolder: string | null): void {
  for (const child of children) child.kill('SIGKILL');
  if (stateFolder === null) return;
  for (const pid of processesNaming(stateFolder)) signal(pid, 'SIGKILL');
}
