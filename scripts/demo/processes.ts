/**
 * The programs the demo starts, and that none of them outlives it: each is ended by its process id, the sandbox host
 * (which a server starts, and which survives it on purpose) by the state folder on its command line.
 */
import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { processesNaming, signal } from '../../chaos/process-table.ts';

export type Started = { child: ChildProcess; pid: number; line: Record<string, unknown>; stderr(): string };

/** A program of ours said why it cannot start, and that is all there is to tell. */
export class NotStarted extends Error {
  override name = 'NotStarted';
}

const READY_TIMEOUT_MS = 15_000;
const END_TIMEOUT_MS = 8_000;
const children = new Set<ChildProcess>();

/** Starts a program of ours and waits for the one line of JSON it prints when it is ready. */
export async function start(args: string[], env: Record<string, string> = {}): Promise<Started> {
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    // stdin stays open for as long as we live: some of ours end when it closes.
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-4_000);
  });
  const name = args.join(' ');
  if (child.stdout === null || child.pid === undefined) throw new Error(`could not start: ${name}`);
  const lines = createInterface({ input: child.stdout });
  const first = await Promise.race([
    once(lines, 'line').then(([line]) => String(line)),
    once(child, 'exit').then(([code]) =>
      Promise.reject(new NotStarted(stderr.trim() || `${name} ended with ${code}`)),
    ),
    sleep(READY_TIMEOUT_MS, null, { ref: false }).then(() =>
      Promise.reject(new NotStarted(`not ready in time: ${name}`)),
    ),
  ]);
  return { child, pid: child.pid, line: JSON.parse(first) as Record<string, unknown>, stderr: () => stderr };
}

export async function killHard({ child }: Started): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

export async function endInOrder({ child }: Started): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await Promise.race([gone, sleep(END_TIMEOUT_MS, null, { ref: false })]);
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
}

/** Ends all that is left, in an order in which nothing starts anything again. */
export async function endAll(stateFolder: string): Promise<void> {
  for (const child of [...children]) child.kill('SIGKILL');
  const hosts = processesNaming(stateFolder);
  for (const pid of hosts) signal(pid, 'SIGTERM');
  for (const untilMs = Date.now() + END_TIMEOUT_MS; Date.now() < untilMs; await sleep(50))
    if (processesNaming(stateFolder).length === 0) return;
  for (const pid of processesNaming(stateFolder)) signal(pid, 'SIGKILL');
}
