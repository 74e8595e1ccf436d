/**
 * Starts the launcher with the guest's socket and waits for the guest's greeting, or for the reason why it never came.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { GuestLink } from './link.ts';

export type StartedGuest = { link: GuestLink; pid: number | null; stop(): Promise<void> };

const MAX_ERROR_BYTES = 4096;
/** A sandbox whose PID 1 cannot even exit is killed from outside. */
const STOP_MS = 3000;

/** The guest, or what was said on stderr. The environment is empty, for /proc/1/environ shows it inside (S1). */
export async function startGuest(
  launch: string,
  args: string[],
): Promise<StartedGuest | { problem: string }> {
  // 3 is the guest's socket, 4 becomes the filter.
  const stdio: StdioOptions = ['ignore', 'ignore', 'pipe', 'pipe', 'ignore'];
  const child = spawn(launch, args, { env: {}, cwd: '/', stdio });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const said = collectErrors(child);
  const link = new GuestLink(child.stdio[3] as Duplex);
  const stop = (): Promise<void> => stopGuest(child, link, exited);
  try {
    await link.ready;
    return { link, pid: child.pid ?? null, stop };
  } catch (error) {
    await stop();
    return { problem: (await said()) || (error as Error).message };
  }
}

function collectErrors(child: ChildProcess): () => Promise<string> {
  const stderr = child.stderr as Readable;
  let text = '';
  stderr.on('data', (chunk: Buffer) => {
    if (text.length < MAX_ERROR_BYTES) text += chunk.toString();
  });
  const closed = new Promise<void>((resolve) => {
    stderr.once('close', () => resolve());
    child.once('error', (error) => {
      text += error.message;
      resolve();
    });
  });
  return async () => {
    await Promise.race([closed, delay(200)]);
    return text.trim();
  };
}

/** Closing the socket ends PID 1 and with it the pid namespace; bwrap ends after that, so its exit means all is gone. */
async function stopGuest(child: ChildProcess, link: GuestLink, exited: Promise<void>): Promise<void> {
  link.end('the sandbox was stopped');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await exited;
  clearTimeout(timer);
}
