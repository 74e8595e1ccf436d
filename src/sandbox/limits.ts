/**
 * Limits of a sandbox: what is asked for, by what each is really enforced (S4), and what ran into one.
 */
import type { LimitName } from '../protocol/limits.ts';

export type Limits = {
  memoryBytes: number;
  processes: number;
  openFiles: number;
  /** Size of /tmp and of /dev/shm together is bounded by this. */
  tmpBytes: number;
  /** Largest single file (RLIMIT_FSIZE). */
  fileBytes: number;
  /** What workspace, outputs and home may hold together. Absent: no limit is asked for. */
  diskBytes?: number;
  /** Processor time per time, all programs together. Absent: every idle core. */
  cpuCores?: number;
  /** Of any one call, whatever the call itself asks for. */
  outputBytes?: number;
  /** Of any one call, whatever the call itself asks for. */
  wallTimeMs?: number;
  /** Without a call for so long the sandbox is stopped. Absent: the host's own times. */
  idleTimeMs?: number;
  /** A sandbox is ended when it has run for so long. */
  lifetimeMs?: number;
};

/** `rlimit_per_process`: each process may have so much, and there is no bound for all. `disk`: a quota or
 * an image of that size. `none`: nothing enforces it. */
export type LimitedBy = 'cgroup2' | 'cgroup1' | 'rlimit' | 'rlimit_per_process' | 'host' | 'disk' | 'none';

/** `value` null: no limit is in force; of idle_time_ms and lifetime_ms the host then has times of its own. */
export type EffectiveLimit = { limit: LimitName; value: number | null; by: LimitedBy };

/** Something ran into a limit. */
export type LimitHit = {
  limit: LimitName;
  /** The limit. */
  value: number;
  /**
   * memory_bytes: processes killed; processes: starts that failed; cpu_cores: ms of being held back, over all cores;
   * output_bytes: bytes not kept; otherwise null.
   */
  amount: number | null;
  atMs: number;
};

/** Only ever grow while a sandbox runs; 0 where the kernel does not count it for us. */
export type LimitCounters = { oomKills: number; failedForks: number; throttledMs: number };

export const noCounts: LimitCounters = { oomKills: 0, failedForks: 0, throttledMs: 0 };

/** What bounds the machine's resources of a sandbox: each by its own means. */
export function effectiveLimits(
  limits: Limits,
  by: { cpu: LimitedBy; memory: LimitedBy; processes: LimitedBy },
): EffectiveLimit[] {
  const isCpuBound = limits.cpuCores !== undefined && by.cpu !== 'none';
  const bound = (limit: LimitName, value: number, means: LimitedBy): EffectiveLimit => ({
    limit,
    value: means === 'none' ? null : value,
    by: means,
  });
  return [
    {
      limit: 'cpu_cores',
      value: isCpuBound ? (limits.cpuCores ?? null) : null,
      by: isCpuBound ? by.cpu : 'none',
    },
    bound('memory_bytes', limits.memoryBytes, by.memory),
    bound('processes', limits.processes, by.processes),
    bound('open_files', limits.openFiles, 'rlimit'),
  ];
}

/** Those that the host keeps itself, whatever isolates. */
export function hostLimits(limits: Limits): EffectiveLimit[] {
  const kept: [LimitName, number | undefined][] = [
    ['output_bytes', limits.outputBytes],
    ['wall_time_ms', limits.wallTimeMs],
    ['idle_time_ms', limits.idleTimeMs],
    ['lifetime_ms', limits.lifetimeMs],
  ];
  return kept.map(([limit, value]) => ({
    limit,
    value: value ?? null,
    by: value === undefined ? 'none' : 'host',
  }));
}

/** What was asked for and is not enforced as asked, for people. */
export function limitWarnings(limits: Limits, effective: EffectiveLimit[]): string[] {
  const by = (name: LimitName): LimitedBy | undefined => effective.find(({ limit }) => limit === name)?.by;
  const warnings: string[] = [];
  if (limits.cpuCores !== undefined && by('cpu_cores') === 'none')
    warnings.push(`cpu_cores ${limits.cpuCores} is NOT enforced: this host may write no cpu control group`);
  if (by('memory_bytes') === 'rlimit_per_process')
    warnings.push('no writable memory and pids cgroup: memory is bounded per process only (rlimits)');
  if (by('memory_bytes') === 'none') warnings.push('memory_bytes is NOT enforced');
  if (by('processes') === 'none') warnings.push('processes is NOT enforced');
  return warnings;
}
