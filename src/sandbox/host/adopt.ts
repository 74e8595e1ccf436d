/**
 * Finding the host of a state folder, or starting it.
 *
 * Promises: a running host is adopted, with all its sandboxes and calls; a started one is detached and outlives us
 * by its grace time; two callers at once get the same host, because only one can hold the folder's lock.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { HostUnreachable } from '../executor.ts';
import type { DiskChoice } from '../snapshot/disks.ts';
import { HostClient } from './client.ts';
import { findPrograms } from './programs.ts';
import { socketPath } from './server.ts';

export type ConnectOptions = {
  stateDir: string;
  allowUnisolated?: boolean;
  /** FROM:TO or FROM:TO:ro */
  binds?: string[];
  /** Where the gateway takes sandboxes' sockets (gateway/capture.ts); without it sandboxes have no network. */
  gatewayDir?: string;
  /** How sessions' disks are kept; absent: as well as the machine can. */
  diskDriver?: DiskChoice;
  ownerGraceMs?: number;
  idleMs?: number;
  idleWithProcessesMs?: number;
  /** How long a host that is being started may take. */
  startMs?: number;
};

const POLL_MS = 10;
const EXIT_TAKEN = 75;

/** A client of the folder's host. The host is found or started now, and again after each loss. */
export async function connectHost(options: ConnectOptions): Promise<HostClient> {
  const client = new HostClient(() => dialOrStart(options));
  await client.hello();
  return client;
}

/** Only finds: null where no host runs. An observer keeps no host alive. */
export async function findHost(stateDir: string): Promise<HostClient | null> {
  const client = new HostClient(() => dial(path.resolve(stateDir)), 'observer');
  try {
    await client.hello();
    return client;
  } catch (error) {
    if (error instanceof HostUnreachable) return null;
    throw error;
  }
}

/** A host with work under way waits for the next server; an idle one ends with us (S5). */
export async function leaveHost(host: HostClient, isBusy: boolean): Promise<void> {
  try {
    if (!isBusy) await host.shutdownHost();
  } catch (error) {
    if (!(error instanceof HostUnreachable)) throw error;
  }
  await host.close();
}

function dial(stateDir: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    let place: ReturnType<typeof socketPath>;
    try {
      place = socketPath(stateDir);
    } catch (error) {
      return reject(error);
    }
    const socket = connect(place.path);
    socket.once('connect', () => {
      place.release();
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => {
      place.release();
      reject(error);
    });
  });
}

async function dialOrStart(options: ConnectOptions): Promise<Socket> {
  const stateDir = path.resolve(options.stateDir);
  try {
    return await dial(stateDir);
  } catch {
    // Nobody there: no socket yet, or a dead host's.
  }
  const host = startHost({ ...options, stateDir });
  const endMs = performance.now() + (options.startMs ?? 10_000);
  for (;;) {
    await delay(POLL_MS);
    try {
      return await dial(stateDir);
    } catch (error) {
      // "Taken" means that somebody else's host is about to listen.
      if (host.exitCode !== null && host.exitCode !== EXIT_TAKEN)
        throw new HostUnreachable(`the host did not start: ${lastWords(stateDir)}`);
      if (performance.now() > endMs)
        throw new HostUnreachable(`no host answers: ${(error as Error).message}`);
    }
  }
}

/** Starts a host of its own session, which no signal to us reaches. Its environment holds none of ours (S1). */
export function startHost(options: ConnectOptions): ChildProcess {
  const { stateDir } = options;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  // Run from source it is a .ts file, from dist a .js one.
  const entry = fileURLToPath(new URL(`./main${path.extname(import.meta.url)}`, import.meta.url));
  const args = ['--state-dir', stateDir];
  if (options.allowUnisolated === true) args.push('--allow-unisolated');
  if (options.gatewayDir !== undefined) args.push('--gateway-dir', path.resolve(options.gatewayDir));
  if (options.diskDriver !== undefined) args.push('--disk-driver', options.diskDriver);
  for (const bind of options.binds ?? []) args.push('--bind', bind);
  for (const [name, value] of [
    ['--owner-grace-ms', options.ownerGraceMs],
    ['--idle-ms', options.idleMs],
    ['--idle-with-processes-ms', options.idleWithProcessesMs],
  ] as const)
    if (value !== undefined) args.push(name, String(value));
  const log = openSync(path.join(stateDir, 'host.log'), 'a', 0o600);
  // A signal opens no debugger: by it every user of the machine could speak to this process.
  const flags = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=2', '--disable-sigusr1'];
  const { launch } = findPrograms();
  const command = [process.execPath, ...flags, entry, ...args];
  // Not built: the host itself says so, and what to do.
  const [program = '', ...rest] = existsSync(launch) ? [launch, '--confined', ...command] : command;
  const child = spawn(program, rest, {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log],
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', ...failpointsOf(process.env) },
  });
  child.on('error', () => {});
  child.unref();
  closeSync(log);
  return child;
}

/** Places of the host are armed with the process that starts it. */
function failpointsOf({ SCRIPTORIUM_FAILPOINTS: armed }: NodeJS.ProcessEnv): Record<string, string> {
  return armed === undefined ? {} : { SCRIPTORIUM_FAILPOINTS: armed };
}

function lastWords(stateDir: string): string {
  try {
    const words = readFileSync(path.join(stateDir, 'host.log'), 'utf8').slice(-1000).trim();
    const last = words.split('\n').at(-1) ?? '';
    // What it says itself is one line; all else is a crash, and earlier lines may be other hosts'.
    return last.startsWith('host: ') ? last.slice('host: '.length) : words;
  } catch {
    return 'it left no log';
  }
}
