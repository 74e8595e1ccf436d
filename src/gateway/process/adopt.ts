/**
 * Finding the gateway of a state folder, or starting it: only once a session needs one, for it costs memory. It outlives
 * us by its grace time, as the host does, so that a command that downloads goes on while an engine is replaced.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GatewayClient } from './client.ts';

export type GatewayPlace = {
  stateDir: string;
  /** `name=address` or `name=address:port`: where the operator says a name is, private or not. */
  pins: string[];
  /** Private networks that may be reached, by CIDR. */
  privateNetworks: string[];
  /** PEM file of authorities to trust upstream, besides the system's. */
  authoritiesFile?: string;
  /** The native programs that it needs. */
  programs: { launch: string; netprep: string; undumpable: string };
  ownerGraceMs?: number;
  startMs?: number;
};

/** The gateway's own user where it is started by root: not the host's, and no session's (they begin at 200000). */
export const gatewayUid = 199_999;

const pollMs = 10;
const exitTaken = 75;
const defaultStartMs = 10_000;

/** The gateway of this machine, found or started when it is first asked for something. */
export class OwnGateway {
  readonly client: GatewayClient;

  readonly #stateDir: string;

  constructor(place: GatewayPlace) {
    this.#stateDir = place.stateDir;
    this.client = new GatewayClient(() => dialOrStart(place));
  }

  /** One that is needed by work under way waits for the next server; an idle one ends with us (S5). */
  async leave(isBusy: boolean): Promise<void> {
    const isEnding = this.client.isConnected && !isBusy;
    if (isEnding) await this.client.shutdown().catch(() => undefined);
    await this.client.close();
    // Below a folder that is not the gateway's own to change.
    if (isEnding) rmSync(captureFolder(this.#stateDir), { recursive: true, force: true });
  }
}

/** Where sandboxes present their sockets. Root's lies where another user can go: a state folder may be below a 0700 home. */
export function captureFolder(stateDir: string): string {
  if (process.getuid?.() !== 0) return path.join(path.resolve(stateDir), 'capture');
  const name = createHash('sha256').update(path.resolve(stateDir)).digest('hex').slice(0, 16);
  return path.join('/run/scriptorium', name);
}

function dial(stateDir: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path.join(stateDir, 'gateway.sock'));
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(socket);
    });
  });
}

async function dialOrStart(place: GatewayPlace): Promise<Socket> {
  const stateDir = path.resolve(place.stateDir);
  const before = await dial(stateDir).catch(() => null);
  if (before) return before;
  const child = start({ ...place, stateDir });
  const endMs = performance.now() + (place.startMs ?? defaultStartMs);
  for (;;) {
    await delay(pollMs);
    try {
      return await dial(stateDir);
    } catch (error) {
      if (child.exitCode !== null && child.exitCode !== exitTaken)
        throw new Error(`it did not start: ${lastWords(stateDir)}`);
      if (performance.now() > endMs) throw error;
    }
  }
}

function start(place: GatewayPlace): ChildProcess {
  const { stateDir } = place;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  // Run from source it is a .ts file, from dist a .js one.
  const entry = fileURLToPath(new URL(`./main${path.extname(import.meta.url)}`, import.meta.url));
  const { launch, netprep, undumpable } = place.programs;
  const args = ['--state-dir', stateDir, '--capture-dir', captureFolder(stateDir), '--launch', launch];
  args.push('--netprep', netprep, '--undumpable', undumpable);
  if (process.getuid?.() === 0) args.push('--uid', String(gatewayUid));
  if (place.ownerGraceMs !== undefined) args.push('--owner-grace-ms', String(place.ownerGraceMs));
  for (const pin of place.pins) args.push('--pin', pin);
  for (const network of place.privateNetworks) args.push('--private-network', network);
  if (place.authoritiesFile !== undefined) args.push('--authorities', path.resolve(place.authoritiesFile));
  const log = openSync(path.join(stateDir, 'gateway.log'), 'a', 0o600);
  // A signal must not open a debugger in it, not even while it starts (run.ts).
  const flags = ['--disable-warning=ExperimentalWarning', '--disable-sigusr1'];
  const child = spawn(process.execPath, [...flags, entry, ...args], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', log, log],
    // S1: nothing of ours, model keys least of all.
    env: { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LANG: 'C.UTF-8', ...armed() },
  });
  child.on('error', () => {});
  child.unref();
  closeSync(log);
  return child;
}

/** Its protections are taken out with those of the process that starts it. */
function armed(): Record<string, string> {
  const { SCRIPTORIUM_FAILPOINTS: text } = process.env;
  return text === undefined ? {} : { SCRIPTORIUM_FAILPOINTS: text };
}

function lastWords(stateDir: string): string {
  try {
    return readFileSync(path.join(stateDir, 'gateway.log'), 'utf8').slice(-1000).trim();
  } catch {
    return 'it left no log';
  }
}
