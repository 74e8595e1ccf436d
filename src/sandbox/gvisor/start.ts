/**
 * The hardened backend: one gVisor sandbox (runsc, systrap) per session. What runs in it speaks with a kernel of its
 * own in user space; the host's kernel hears only that one, behind a filter of its own.
 *
 * Promises: S4, what was asked and cannot be had is a Refusal with the remedy; S5, runsc dies with its host, its kernel
 * and file server with it, and their cgroups and folders go with the sandbox.
 */
import { execFile } from 'node:child_process';
import { chownSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Programs, RunningSandbox, StartRequest } from '../backend.ts';
import type { Limits, Refusal } from '../executor.ts';
import { startGuest } from '../guest/start.ts';
import { effectiveLimits, limitWarnings } from '../limits.ts';
import type { CapturePool } from '../local/capture-pool.ts';
import { type Captured, withCapture } from '../local/captured.ts';
import { type CgroupPlaces, SandboxCgroups } from '../local/cgroup.ts';
import { trustEnvironment } from '../local/trust.ts';
import { supervisorOf, writeBundle } from './bundle.ts';

export type GvisorMachine = {
  programs: Programs;
  cgroups: CgroupPlaces;
  etcFolder: string;
  /** For what runsc needs of each running sandbox. */
  folder: string;
  capture: CapturePool | null;
};

export const gvisorRemedy = 'Install gVisor beside the native programs: node scripts/bootstrap.mjs gvisor';
/** runsc's kernel, its file server and their threads, beside what the session may have. */
const OWN_BYTES = 128 << 20;
const OWN_THREADS = 128;
/** A process inside is an address space of its own with threads of the kernel's outside. */
const THREADS_PER_PROCESS = 3;
/** gVisor's kernel counts no processes and no memory of a session itself. */
const unbounded = { cpu: 'none', memory: 'none', processes: 'none' } as const;

export function startGvisor(
  machine: GvisorMachine,
  request: StartRequest,
): Promise<RunningSandbox | Refusal> {
  const { runsc } = machine.programs;
  if (runsc === null) return Promise.resolve(unavailable(`runsc (gVisor) is not installed. ${gvisorRemedy}`));
  return withCapture(machine.capture, request.network, (captured) =>
    startCaptured(machine, request, runsc, captured),
  );
}

async function startCaptured(
  machine: GvisorMachine,
  request: StartRequest,
  runsc: string,
  captured: Captured | null,
): Promise<RunningSandbox | Refusal> {
  const { programs } = machine;
  let groups: SandboxCgroups;
  try {
    groups = new SandboxCgroups(machine.cgroups, request.name, outerLimits(request.limits));
  } catch (error) {
    return unavailable(`the sandbox's control group cannot be made: ${(error as Error).message}`);
  }
  const folder = path.join(machine.folder, request.name);
  const { bundle, run } = makeFolders(folder, request.uid);
  const args = writeBundle(request.name, runsc, {
    ...request,
    ...{ bundle, run, etcFolder: machine.etcFolder },
    ...{ guest: programs.guest, launch: programs.launch, node: programs.node },
    captured,
  });
  const joinGroups = groups.procsFiles.flatMap((file) => ['--cgroup', file]);
  const started = await startGuest(programs.launch, [...joinGroups, ...args]);
  const clean = async (): Promise<void> => {
    await groups.remove();
    await removeFolder(programs.launch, folder);
  };
  if ('problem' in started) {
    await clean();
    return unavailable(explain(started.problem));
  }
  void captured?.ended.then((why) => started.link.end(`its capture namespace ended: ${why}`));
  const same = (path: string): string => path;
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    await started.stop();
    await captured?.stop();
    await clean();
  };
  const by = machine.cgroups.kind === 'none' ? unbounded : groups.boundBy;
  const limits = effectiveLimits(request.limits, by);
  return {
    link: started.link,
    info: {
      isolation: 'gvisor',
      limitsBy: machine.cgroups.kind === 'none' ? 'rlimits' : machine.cgroups.kind,
      seccomp: true,
      ownUid: request.uid,
      network: captured === null ? 'none' : 'gateway',
      limits,
      warnings: [...warnings(request), ...limitWarnings(request.limits, limits)],
    },
    ...(captured === null ? {} : { env: trustEnvironment, connect: captured.connect }),
    // From inside: the host sees no process of the session.
    freeze: async () => {
      // A sandbox that has ended meanwhile is still enough.
      await started.link.hold().catch(() => {});
      return () => started.link.letGo();
    },
    oomKills: () => groups.oomKills(),
    counters: () => groups.counters(),
    inside: same,
    outside: same,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** What hosts that were killed have left here; call only with the lock of the state folder held. */
export async function removeLeftBundles(launch: string, folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  await Promise.all(readdirSync(folder).map((name) => removeFolder(launch, path.join(folder, name))));
}

function makeFolders(folder: string, uid: number | null): { bundle: string; run: string } {
  const made = { bundle: path.join(folder, 'bundle'), run: path.join(folder, 'run') };
  mkdirSync(made.bundle, { recursive: true, mode: 0o755 });
  mkdirSync(made.run, { mode: 0o700 });
  if (uid !== null) chownSync(made.run, supervisorOf(uid), supervisorOf(uid));
  return made;
}

/** By the launcher: what gVisor's kernel may write to is not walked by path (S3). */
function removeFolder(launch: string, folder: string): Promise<void> {
  return new Promise((resolve) => {
    execFile(launch, ['--remove', folder], { env: {} }, (error) => {
      if (error !== null) process.stderr.write(`${folder} was not removed wholly\n`);
      resolve();
    });
  });
}

/** Bounds of the whole, seen from outside: the session's, and what gVisor itself takes. */
function outerLimits(limits: Limits): Limits {
  return {
    ...limits,
    memoryBytes: limits.memoryBytes + OWN_BYTES,
    processes: limits.processes * THREADS_PER_PROCESS + OWN_THREADS,
  };
}

function warnings(request: StartRequest): string[] {
  const all = request.binds.map(
    (bind) => `the operator's ${bind.from} is bound at ${bind.to}${bind.readOnly ? ' (read-only)' : ''}`,
  );
  if (request.uid === null)
    all.push("the host is not root: sandboxes run with the host's own uid, and inside the session is uid 0");
  return all;
}

function unavailable(message: string): Refusal {
  return { refused: 'isolation_unavailable', message };
}

function explain(problem: string): string {
  const hints: [RegExp, string][] = [
    [/unknown platform|flag provided but not defined/, `This runsc is too old. ${gvisorRemedy}`],
    [
      /user namespace|newuidmap|uid_map|map of users/,
      'Unprivileged user namespaces seem to be off: allow them (sysctl kernel.unprivileged_userns_clone=1, or an ' +
        'AppArmor profile with "userns,").',
    ],
  ];
  const hint = hints.find(([pattern]) => pattern.test(problem))?.[1] ?? '';
  return `the gVisor sandbox did not start: ${problem}. ${hint}`.trim();
}
