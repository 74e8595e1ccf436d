/**
 * What this machine can isolate, for `scriptorium doctor`. Each check really tries the thing it speaks of (S4): a
 * version number or a sysctl tells what should work, and containers and hardened kernels are where it does not.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Programs, RunningSandbox, StartRequest } from './backend.ts';
import { isRefusal, type Refusal } from './executor.ts';
import { gvisorRemedy, startGvisor } from './gvisor/start.ts';
import { buildRemedy, findPrograms, missingPrograms } from './host/programs.ts';
import { Session } from './host/session.ts';
import { captureHint, nftRemedy } from './local/capture-namespace.ts';
import { findCgroups } from './local/cgroup.ts';
import { writeEtc } from './local/etc.ts';
import { bwrapOptions, type LocalMachine, startLocal } from './local/start.ts';
import { probeDisks } from './snapshot/probe-disks.ts';

export type ProbeCheck = {
  check: string;
  ok: boolean;
  /** What there is, in a few words. */
  found: string;
  /** What to do about it; null when there is nothing to do. */
  remedy: string | null;
};

/** No other process's: the gateway has 199999, holders of namespaces 199998, sessions begin at 200000. */
const PROBE_UID = 199_997;
const LEAST_FREE_BYTES = 2 * 2 ** 30;
const isRoot = process.getuid?.() === 0;

type Outcome = { code: number; output: string };

function run(program: string, args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: 10_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, output: (stdout + stderr).trim() || (error?.message ?? '') });
    });
  });
}

export async function probe(about: { dataDir: string }): Promise<ProbeCheck[]> {
  const isLinux = process.platform === 'linux';
  const system: ProbeCheck = {
    check: 'system',
    ok: isLinux,
    found: `${process.platform} ${process.arch}`,
    remedy: isLinux ? null : 'Sandboxes need Linux: run the server in a Linux virtual machine or container.',
  };
  if (!isLinux) return [system];
  const programs = findPrograms();
  return [
    system,
    checkNative(programs),
    await survived('bubblewrap', () => checkBwrap(programs)),
    await survived('seccomp', () => needsNative('seccomp', programs) ?? checkSeccomp(programs)),
    await survived('sandbox', () => needsNative('sandbox', programs) ?? checkSandbox(programs)),
    await survived('gvisor', () => needsNative('gvisor', programs) ?? checkGvisor(programs)),
    await survived(
      'captured network',
      () => needsNative('captured network', programs) ?? checkCapture(programs),
    ),
    await survived('cgroups', checkCgroups),
    checkOwnUid(),
    await survived('git', checkGit),
    checkDisk(about.dataDir),
    await survived('disks', () => needsNative('disks', programs) ?? checkDisks(programs, about.dataDir)),
  ];
}

/** A doctor that dies of what it looks at helps nobody. */
async function survived(check: string, look: () => ProbeCheck | Promise<ProbeCheck>): Promise<ProbeCheck> {
  try {
    return await look();
  } catch (error) {
    const found = (error as Error).message.trim().split('\n', 1)[0] ?? '';
    const remedy = 'It could not be looked at: see that what it names is there and may be executed.';
    return { check, ok: false, found: found || 'failed', remedy };
  }
}

/** Without our own programs these say nothing about the kernel. */
function needsNative(check: string, programs: Programs): ProbeCheck | null {
  const missing = missingPrograms(programs);
  return missing === null
    ? null
    : { check, ok: false, found: `cannot be tried: ${missing} not built`, remedy: buildRemedy };
}

function checkNative(programs: Programs): ProbeCheck {
  const missing = missingPrograms(programs);
  return {
    check: 'native programs',
    ok: missing === null,
    found: missing === null ? 'guest, launch and netprep are built' : `not built: ${missing}`,
    remedy: missing === null ? null : buildRemedy,
  };
}

async function checkBwrap(programs: Programs): Promise<ProbeCheck> {
  const check = 'bubblewrap';
  if (programs.bwrap === null)
    return { check, ok: false, found: 'no bwrap', remedy: 'Install the package "bubblewrap".' };
  const { code, output } = await run(programs.bwrap, ['--version']);
  if (code !== 0)
    return { check, ok: false, found: output, remedy: `${programs.bwrap} does not run: reinstall it.` };
  const remedy = bwrapOptions(programs.bwrap).disableUserns
    ? null
    : 'It has no --disable-userns: nested namespaces are refused by seccomp only. Version 0.8 or later is better.';
  return { check, ok: true, found: `${output} at ${programs.bwrap}`, remedy };
}

async function checkSeccomp(programs: Programs): Promise<ProbeCheck> {
  const { code, output } = await run(programs.launch, ['--probe-seccomp']);
  return {
    check: 'seccomp',
    ok: code === 0,
    found: code === 0 ? `the filter is in force (${output})` : output || 'the filter does not hold',
    remedy:
      code === 0 ? null : 'A kernel with CONFIG_SECCOMP_FILTER is needed, and a container that allows it.',
  };
}

async function checkSandbox(programs: Programs): Promise<ProbeCheck> {
  const check = 'sandbox';
  const disableUserns = programs.bwrap !== null && bwrapOptions(programs.bwrap).disableUserns;
  const why = await tried(programs, (machine, request) =>
    startLocal({ ...machine, bwrapOptions: { disableUserns } }, request),
  );
  if (why !== null) return { check, ok: false, found: 'does not start', remedy: why };
  return { check, ok: true, found: 'starts, with namespaces of its own and no network', remedy: null };
}

/** Opt-in, so its lack keeps nobody from anything but environments that ask for it. */
async function checkGvisor(programs: Programs): Promise<ProbeCheck> {
  const check = 'gvisor';
  if (programs.runsc === null)
    return {
      check,
      ok: false,
      found: 'not installed: environments that ask for it get none',
      remedy: gvisorRemedy,
    };
  const why = await tried(programs, (machine, request) =>
    startGvisor({ ...machine, folder: path.join(machine.etcFolder, '../gvisor') }, request),
  );
  if (why !== null) return { check, ok: false, found: 'does not start', remedy: why };
  const { output } = await run(programs.runsc, ['--version']);
  const found = `${output.split('\n', 1)[0]}: starts, with a kernel of its own and no network`;
  return { check, ok: true, found, remedy: null };
}

type Machine = Omit<LocalMachine, 'bwrapOptions'>;
type Start = (machine: Machine, request: StartRequest) => Promise<RunningSandbox | Refusal>;

/** Starts a whole sandbox in a temporary folder, the one check that cannot be wrong: why it fails, or null. */
async function tried(programs: Programs, start: Start): Promise<string | null> {
  const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-probe-'));
  const etcFolder = path.join(folder, 'etc');
  try {
    const uid = isRoot ? PROBE_UID : null;
    Session.makeDisk(folder, uid);
    writeEtc(etcFolder);
    const { folders } = new Session('probe', folder, () => Promise.reject(new Error('unused')));
    const limits = {
      ...{ memoryBytes: 256 << 20, processes: 32, openFiles: 256 },
      ...{ tmpBytes: 1 << 20, fileBytes: 1 << 20 },
    };
    const sandbox = await start(
      { programs, cgroups: findCgroups(), capture: null, etcFolder },
      { name: `scriptorium-probe-${process.pid}`, folders, limits, uid, binds: [], network: null },
    );
    if (isRefusal(sandbox)) return sandbox.message;
    await sandbox.stop();
    return null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Makes the namespace with its rules and sends a connection through them to an address of nobody. */
async function checkCapture(programs: Programs): Promise<ProbeCheck> {
  const check = 'captured network';
  if (programs.nft === null) return { check, ok: false, found: 'no nft', remedy: nftRemedy };
  const args = isRoot ? ['--uid', String(PROBE_UID)] : [];
  args.push('--', programs.netprep, 'probe', programs.nft);
  const { code, output } = await run(programs.launch, args);
  if (code === 0)
    return { check, ok: true, found: 'all TCP of a sandbox can be brought to a gateway', remedy: null };
  const found = output.split('\n', 1)[0] || 'it fails';
  return {
    check,
    ok: false,
    found,
    remedy: `${captureHint(output)} Sandboxes have no network till then.`.trim(),
  };
}

function checkCgroups(): ProbeCheck {
  const { kind } = findCgroups();
  const isBounded = kind !== 'none';
  return {
    check: 'cgroups',
    ok: isBounded,
    found: isBounded
      ? `${kind}, writable: memory and processes of a sandbox are bounded`
      : 'none that we may write',
    remedy: isBounded
      ? null
      : 'Memory is bounded per process only. Run the server as root, or under systemd with Delegate=yes.',
  };
}

function checkOwnUid(): ProbeCheck {
  return {
    check: 'own uid per session',
    ok: isRoot,
    found: isRoot ? 'each session gets its own' : 'all sessions share the uid of the server',
    remedy: isRoot
      ? null
      : 'Sessions are kept apart by namespaces only. Run the server as root for a uid each.',
  };
}

async function checkGit(): Promise<ProbeCheck> {
  const { code, output } = await run('git', ['--version']);
  return {
    check: 'git',
    ok: code === 0,
    found: code === 0 ? output : 'not found',
    remedy: code === 0 ? null : 'Install git: agents use it inside the sandbox.',
  };
}

/** A doctor makes nothing: the folder, or the nearest one above it in which it could be made. */
function nearestFolder(folder: string): string {
  let place = path.resolve(folder);
  while (!existsSync(place)) place = path.dirname(place);
  return place;
}

async function checkDisks(programs: Programs, dataDir: string): Promise<ProbeCheck> {
  return { check: 'disks', ok: true, ...(await probeDisks(programs, nearestFolder(dataDir))) };
}

function checkDisk(dataDir: string): ProbeCheck {
  const check = 'disk';
  try {
    const place = nearestFolder(dataDir);
    if (!statSync(place).isDirectory()) throw new Error(`${place} is not a folder`);
    accessSync(place, constants.W_OK);
    const { bavail, bsize } = statfsSync(place);
    const freeBytes = bavail * bsize;
    const ok = freeBytes >= LEAST_FREE_BYTES;
    return {
      check,
      ok,
      found: `${(freeBytes / 2 ** 30).toFixed(1)} GiB free`,
      remedy: ok ? null : 'Disks of sessions grow into what is free here: keep some gigabytes free.',
    };
  } catch (error) {
    return { check, ok: false, found: (error as Error).message, remedy: `Make ${dataDir} writable.` };
  }
}
