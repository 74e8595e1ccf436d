/**
 * The default backend: one bubblewrap per session, for as long as the session is at work.
 *
 * Promises: S4, what was asked and cannot be had is a Refusal with the remedy; S5, cgroups go with their sandbox.
 */
import { execFileSync } from 'node:child_process';
import { failpoints } from '../../protocol/failpoint.ts';
import type { Programs, RunningSandbox, StartRequest } from '../backend.ts';
import type { Refusal } from '../executor.ts';
import { startGuest } from '../guest/start.ts';
import { effectiveLimits, limitWarnings } from '../limits.ts';
import { type BwrapOptions, commandLine } from './bubblewrap.ts';
import type { CapturePool } from './capture-pool.ts';
import { type Captured, withCapture } from './captured.ts';
import { type CgroupPlaces, SandboxCgroups } from './cgroup.ts';
import { freezeBelow } from './freeze.ts';
import { withinOurs } from './rlimits.ts';
import { trustEnvironment } from './trust.ts';
import { weakened, weakenedLimits } from './weakened.ts';

export type LocalMachine = {
  programs: Programs;
  cgroups: CgroupPlaces;
  etcFolder: string;
  bwrapOptions: BwrapOptions;
  /** Null where the host was started without a gateway's folder. */
  capture: CapturePool | null;
};

/** Asks bwrap itself what it can do: distributions patch it, so its version number does not tell. */
export function bwrapOptions(bwrap: string): BwrapOptions {
  try {
    const help = execFileSync(bwrap, ['--help'], { encoding: 'utf8', env: {}, stdio: 'pipe' });
    return { disableUserns: help.includes('--disable-userns') };
  } catch (error) {
    const why = (error as Error).message.trim().split('\n', 1)[0];
    throw new BwrapUnusable(`${bwrap} does not run (${why}): reinstall the package "bubblewrap"`);
  }
}

export class BwrapUnusable extends Error {
  override name = 'BwrapUnusable';
}

export async function startLocal(
  machine: LocalMachine,
  asked: StartRequest,
): Promise<RunningSandbox | Refusal> {
  const { programs } = machine;
  const request = failpoints.on ? { ...asked, limits: weakenedLimits(asked.limits) } : asked;
  if (programs.bwrap === null)
    return unavailable('bubblewrap (bwrap) is not installed. Install the package "bubblewrap".');
  const { bwrap } = programs;
  return withCapture(machine.capture, request.network, (captured) =>
    startCaptured(machine, request, bwrap, captured),
  );
}

async function startCaptured(
  machine: LocalMachine,
  request: StartRequest,
  bwrap: string,
  captured: Captured | null,
): Promise<RunningSandbox | Refusal> {
  const { programs } = machine;
  let groups: SandboxCgroups;
  try {
    groups = new SandboxCgroups(machine.cgroups, request.name, request.limits);
  } catch (error) {
    return unavailable(`the sandbox's control group cannot be made: ${(error as Error).message}`);
  }
  const boundByRlimits = machine.cgroups.kind === 'none';
  const line = commandLine({
    ...request,
    launch: programs.launch,
    bwrap,
    guest: programs.guest,
    node: programs.node,
    etcFolder: machine.etcFolder,
    procsFiles: groups.procsFiles,
    boundByRlimits,
    options: machine.bwrapOptions,
    captured,
  });
  const started = await startGuest(programs.launch, failpoints.on ? weakened(line) : line);
  if ('problem' in started) {
    await groups.remove();
    return unavailable(explain(started.problem));
  }
  // A sandbox whose sockets nobody holds any more has no way out: what runs in it is told by its end.
  void captured?.ended.then((why) => started.link.end(`its capture namespace ended: ${why}`));
  const same = (path: string): string => path;
  const { boundBy } = groups;
  const by = boundByRlimits
    ? ({ cpu: 'none', memory: 'rlimit_per_process', processes: 'rlimit' } as const)
    : boundBy;
  const limits = effectiveLimits(withinOurs(request.limits), by);
  return {
    link: started.link,
    info: {
      isolation: 'bubblewrap',
      limitsBy: machine.cgroups.kind === 'none' ? 'rlimits' : machine.cgroups.kind,
      seccomp: true,
      ownUid: request.uid,
      network: captured === null ? 'none' : 'gateway',
      limits,
      warnings: [...warnings(machine, request), ...limitWarnings(request.limits, limits)],
    },
    ...(captured === null ? {} : { env: trustEnvironment, connect: captured.connect }),
    ...(started.pid === null ? {} : { freeze: () => freezeBelow(started.pid as number) }),
    oomKills: () => groups.oomKills(),
    counters: () => groups.counters(),
    inside: same,
    outside: same,
    stop: async () => {
      await started.stop();
      await captured?.stop();
      await groups.remove();
    },
  };
}

function warnings(machine: LocalMachine, request: StartRequest): string[] {
  const all = request.binds.map(
    (bind) => `the operator's ${bind.from} is bound at ${bind.to}${bind.readOnly ? ' (read-only)' : ''}`,
  );
  if (request.uid === null) all.push("the host is not root: all sandboxes run with the host's own uid");
  if (!machine.bwrapOptions.disableUserns)
    all.push('this bwrap has no --disable-userns: nested user namespaces are refused by seccomp only');
  return all;
}

function unavailable(message: string): Refusal {
  return { refused: 'isolation_unavailable', message };
}

/** bwrap's own words first, then what they usually mean. */
function explain(problem: string): string {
  const hints: [RegExp, string][] = [
    [
      /uid map|user namespace|unshare|RTM_NEWADDR|clone/i,
      'Unprivileged user namespaces seem to be off: allow them for bwrap (an AppArmor profile with "userns," for ' +
        'its path, or sysctl kernel.unprivileged_userns_clone=1).',
    ],
    [
      /proc/i,
      'A container that masks /proc cannot hold a sandbox: run it with an unmasked /proc, or on the machine.',
    ],
    [/seccomp/i, 'This kernel or container refuses seccomp filters.'],
  ];
  const hint = hints.find(([pattern]) => pattern.test(problem))?.[1] ?? '';
  return `the sandbox did not start: ${problem}. ${hint}`.trim();
}
