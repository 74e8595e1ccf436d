/**
 * The host's process: `node main.ts --state-dir DIR [--allow-unisolated] [--bind FROM:TO[:ro]]… [--owner-grace-ms N]
 * [--idle-ms N] [--idle-with-processes-ms N]`. Started detached by adopt.ts; survives whoever started it.
 *
 * Exit codes: 0 its owners are gone or it was asked to end; 64 wrong arguments; 75 another host serves the folder.
 */
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { OperatorBind } from '../backend.ts';
import { bindProblem } from '../local/bubblewrap.ts';
import { findCgroups, groupParents } from '../local/cgroup.ts';
import { groupPrefix, Host } from './host.ts';
import { takeLock } from './lock.ts';
import { findPrograms } from './programs.ts';
import { HostServer } from './server.ts';

type Arguments = {
  stateDir: string;
  allowUnisolated: boolean;
  binds: OperatorBind[];
  ownerGraceMs: number;
  idleMs: number;
  idleWithProcessesMs: number;
};

const EXIT_USAGE = 64;
const EXIT_TAKEN = 75;

function fail(message: string, code: number): never {
  process.stderr.write(`host: ${message}\n`);
  process.exit(code);
}

function milliseconds(text: string | undefined, name: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0 || value > 2 ** 31 - 1)
    fail(`${name} needs milliseconds`, EXIT_USAGE);
  return value;
}

function takeBind(text: string): OperatorBind {
  const [from, to, mode, ...rest] = text.split(':');
  const isForm = from !== undefined && to !== undefined && rest.length === 0 && (mode ?? 'ro') === 'ro';
  if (!isForm) fail(`--bind ${text}: must be FROM:TO or FROM:TO:ro`, EXIT_USAGE);
  const bind = { from, to, readOnly: mode === 'ro' };
  const problem = bindProblem(bind);
  if (problem !== null) fail(`--bind ${text}: ${problem}`, EXIT_USAGE);
  return bind;
}

function parseArguments(argv: string[]): Arguments {
  const found: Arguments = {
    stateDir: '',
    allowUnisolated: false,
    binds: [],
    ownerGraceMs: 120_000,
    idleMs: 60_000,
    idleWithProcessesMs: 15 * 60_000,
  };
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] as string;
    if (name === '--allow-unisolated') {
      found.allowUnisolated = true;
      continue;
    }
    const value = argv[++i];
    if (name === '--state-dir' && value !== undefined) found.stateDir = path.resolve(value);
    else if (name === '--bind' && value !== undefined) found.binds.push(takeBind(value));
    else if (name === '--owner-grace-ms') found.ownerGraceMs = milliseconds(value, name);
    else if (name === '--idle-ms') found.idleMs = milliseconds(value, name);
    else if (name === '--idle-with-processes-ms') found.idleWithProcessesMs = milliseconds(value, name);
    else fail(`unknown or incomplete argument ${name}`, EXIT_USAGE);
  }
  if (found.stateDir === '') fail('--state-dir is needed', EXIT_USAGE);
  return found;
}

async function main(): Promise<void> {
  const { stateDir, ownerGraceMs, ...options } = parseArguments(process.argv.slice(2));
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  chmodSync(stateDir, 0o700);
  const programs = findPrograms();
  const cgroups = findCgroups(true);
  const prefix = groupPrefix(stateDir);
  const groups = groupParents(cgroups).flatMap((folder) => [folder, prefix]);
  const lock = await takeLock(programs.launch, path.join(stateDir, 'host.lock'), groups);
  if (!lock.isHeld) fail(lock.reason, EXIT_TAKEN);
  const host = Host.open({ stateDir, programs, cgroups, ...options });
  let isEnding = false;
  const end = (): void => {
    if (isEnding) return;
    isEnding = true;
    void shutDown();
  };
  const server = await HostServer.listen({ stateDir, host, ownerGraceMs, onAbandoned: end });
  const shutDown = async (): Promise<void> => {
    rmSync(path.join(stateDir, 'host.sock'), { force: true });
    await host.close();
    await server.close();
    lock.release();
    await lock.lost;
    process.exit(0);
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  // The terminal of whoever started us may close.
  process.on('SIGHUP', () => {});
  // Without the lock another host may start: two would fight over the same sandboxes.
  void lock.lost.then(end);
}

await main();
