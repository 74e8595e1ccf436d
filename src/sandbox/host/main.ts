/**
 * The host's process: `node main.ts --state-dir DIR [--allow-unisolated] [--bind FROM:TO[:ro]]… [--owner-grace-ms N]
 * [--idle-ms N] [--idle-with-processes-ms N] [--gateway-dir DIR]
 * [--disk-driver auto|btrfs|ext4|reflink|tar]`. Started detached by adopt.ts; survives whoever started it.
 *
 * Exit codes: 0 its owners are gone or it was asked to end; 64 wrong arguments; 69 a program it needs
 * is missing or does not run; 75 another host serves the folder.
 */
import path from 'node:path';
import type { OperatorBind } from '../backend.ts';
import { parseBind } from '../local/bubblewrap.ts';
import { type DiskChoice, diskChoices } from '../snapshot/disks.ts';
import { buildRemedy, findPrograms, missingPrograms } from './programs.ts';
import { defaultIdle, runHost } from './run.ts';

type Arguments = {
  stateDir: string;
  allowUnisolated: boolean;
  binds: OperatorBind[];
  ownerGraceMs: number;
  idleMs: number;
  idleWithProcessesMs: number;
  gatewayDir: string | null;
  diskDriver?: DiskChoice;
};

const EXIT_USAGE = 64;
const EXIT_UNAVAILABLE = 69;
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

function takeDiskDriver(text: string): DiskChoice {
  const choice = diskChoices.find((word) => word === text);
  return choice ?? fail(`--disk-driver must be one of ${diskChoices.join(', ')}`, EXIT_USAGE);
}

function takeBind(text: string): OperatorBind {
  try {
    return parseBind(text);
  } catch (error) {
    fail((error as Error).message, EXIT_USAGE);
  }
}

function parseArguments(argv: string[]): Arguments {
  const found: Arguments = {
    stateDir: '',
    allowUnisolated: false,
    binds: [],
    gatewayDir: null,
    ...defaultIdle,
  };
  for (let i = 0; i < argv.length; i++) {
    const name = argv[i] as string;
    if (name === '--allow-unisolated') {
      found.allowUnisolated = true;
      continue;
    }
    const value = argv[++i];
    if (name === '--state-dir' && value !== undefined) found.stateDir = path.resolve(value);
    else if (name === '--gateway-dir' && value !== undefined) found.gatewayDir = path.resolve(value);
    else if (name === '--disk-driver' && value !== undefined) found.diskDriver = takeDiskDriver(value);
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
  const options = parseArguments(process.argv.slice(2));
  const missing = missingPrograms(findPrograms());
  if (missing !== null) fail(`native programs are not built: ${missing}. ${buildRemedy}`, EXIT_UNAVAILABLE);
  const host = await runHost(options).catch((error: Error) => {
    if (error.name === 'BwrapUnusable') fail(error.message, EXIT_UNAVAILABLE);
    throw error;
  });
  if ('taken' in host) fail(host.taken, EXIT_TAKEN);
  process.on('SIGTERM', host.end);
  process.on('SIGINT', host.end);
  // The terminal of whoever started us may close.
  process.on('SIGHUP', () => {});
  await host.ended;
  process.exit(0);
}

await main();
