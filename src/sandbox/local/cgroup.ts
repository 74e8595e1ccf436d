/**
 * Control groups where this process may make them: v2 with controllers, else v1 memory and pids. A v2 mount without
 * controllers is still used for `cgroup.kill`, which ends a whole tree at once.
 *
 * Promises: what is found was really tried (S4); a group is removed with its sandbox, and what a killed host leaves
 * behind by the holder of its lock (S5; native/launch.c).
 */
import { mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LimitCounters, LimitedBy, Limits } from '../limits.ts';

export type CgroupPlaces =
  | { kind: 'cgroup2'; unified: string }
  | { kind: 'cgroup1'; memory: string; pids: string; cpu: string | null; unified: string | null }
  | { kind: 'none'; unified: string | null };

/** bwrap, the guest and the supervisors need processes of their own beside the session's. */
const OWN_PROCESSES = 16;
const REMOVE_TRIES = 100;
const CPU_PERIOD_US = 100_000;

type Mounts = { unified: string | null; v1: Map<string, string> };

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function cgroupMounts(): Mounts {
  const mounts: Mounts = { unified: null, v1: new Map() };
  for (const line of readOrEmpty('/proc/self/mountinfo').split('\n')) {
    const [left, right] = line.split(' - ');
    const place = left?.split(' ')[4];
    const [type, , options] = right?.split(' ') ?? [];
    if (place === undefined) continue;
    if (type === 'cgroup2') mounts.unified ??= place;
    if (type === 'cgroup') for (const name of (options ?? '').split(',')) mounts.v1.set(name, place);
  }
  return mounts;
}

/** Our own group below a mount, so that what bounds the host bounds its sandboxes, too. */
function ownGroup(mount: string, controller: string): string {
  for (const line of readOrEmpty('/proc/self/cgroup').split('\n')) {
    const [, names, ...rest] = line.split(':');
    if (names === undefined || !(controller === '' ? names === '' : names.split(',').includes(controller)))
      continue;
    const own = path.join(mount, rest.join(':'));
    if (statSync(own, { throwIfNoEntry: false })?.isDirectory()) return own;
  }
  return mount;
}

/** Makes and removes a group below `parent`; true when it has all of `files`. */
function canMakeGroup(parent: string, files: string[]): boolean {
  const trial = path.join(parent, `scriptorium-try-${process.pid}`);
  try {
    mkdirSync(trial);
  } catch {
    return false;
  }
  const complete = files.every(
    (file) => statSync(path.join(trial, file), { throwIfNoEntry: false }) !== undefined,
  );
  rmdirSync(trial);
  return complete;
}

/** v2 hands controllers down only from a group without processes: the host moves itself one level deeper first. */
function enableControllers(own: string): boolean {
  const available = readOrEmpty(path.join(own, 'cgroup.controllers')).split(/\s+/);
  if (!available.includes('memory') || !available.includes('pids')) return false;
  const enable = (): boolean => {
    try {
      writeFileSync(path.join(own, 'cgroup.subtree_control'), '+memory +pids');
      if (available.includes('cpu')) tryWrite(path.join(own, 'cgroup.subtree_control'), '+cpu');
      return true;
    } catch {
      return false;
    }
  };
  if (enable()) return true;
  try {
    const leaf = path.join(own, 'scriptorium-host');
    mkdirSync(leaf, { recursive: true });
    writeFileSync(path.join(leaf, 'cgroup.procs'), '0');
  } catch {
    return false;
  }
  return enable();
}

/** Finds out what can be used. `enable` may rearrange our own v2 group, so only the host passes it. */
export function findCgroups(enable = false): CgroupPlaces {
  const mounts = cgroupMounts();
  const unifiedOwn = mounts.unified === null ? null : ownGroup(mounts.unified, '');
  if (unifiedOwn !== null && enable) enableControllers(unifiedOwn);
  if (unifiedOwn !== null && canMakeGroup(unifiedOwn, ['memory.max', 'pids.max']))
    return { kind: 'cgroup2', unified: unifiedOwn };
  const unified = unifiedOwn !== null && canMakeGroup(unifiedOwn, ['cgroup.kill']) ? unifiedOwn : null;
  const memoryMount = mounts.v1.get('memory');
  const pidsMount = mounts.v1.get('pids');
  if (memoryMount === undefined || pidsMount === undefined) return { kind: 'none', unified };
  const memory = ownGroup(memoryMount, 'memory');
  const pids = ownGroup(pidsMount, 'pids');
  const usable = canMakeGroup(memory, ['memory.limit_in_bytes']) && canMakeGroup(pids, ['pids.max']);
  if (!usable) return { kind: 'none', unified };
  const cpuMount = mounts.v1.get('cpu');
  const cpuOwn = cpuMount === undefined ? null : ownGroup(cpuMount, 'cpu');
  const cpu = cpuOwn !== null && canMakeGroup(cpuOwn, ['cpu.shares']) ? cpuOwn : null;
  return { kind: 'cgroup1', memory, pids, cpu, unified };
}

/** Where a sandbox's groups are made. */
export function groupParents(places: CgroupPlaces): string[] {
  const all =
    places.kind === 'cgroup1' ? [places.memory, places.pids, places.cpu, places.unified] : [places.unified];
  return [...new Set(all)].filter((place) => place !== null);
}

/** The groups of one sandbox. */
export class SandboxCgroups {
  readonly #folders: string[];
  readonly #kind: CgroupPlaces['kind'];
  /** By resource, where they are in force. */
  readonly #by: { memory: string | null; pids: string | null; cpu: string | null };
  #isCpuBound = false;

  /** Throws where the groups cannot be made after all; nothing is left then. */
  constructor(places: CgroupPlaces, name: string, limits: Limits) {
    this.#kind = places.kind;
    this.#folders = groupParents(places).map((parent) => path.join(parent, name));
    for (const folder of this.#folders) mkdirSync(folder, { recursive: true });
    this.#by = groupsOf(places, name);
    const processes = String(limits.processes + OWN_PROCESSES);
    if (places.kind === 'cgroup2') {
      const folder = this.#folders[0] as string;
      writeFileSync(path.join(folder, 'memory.max'), String(limits.memoryBytes));
      writeFileSync(path.join(folder, 'pids.max'), processes);
      tryWrite(path.join(folder, 'memory.swap.max'), '0');
      tryWrite(path.join(folder, 'cpu.weight'), '50');
      const quota = quotaUs(limits);
      if (quota !== null)
        this.#isCpuBound = tryWrite(path.join(folder, 'cpu.max'), `${quota} ${CPU_PERIOD_US}`);
    } else if (places.kind === 'cgroup1') {
      const memory = path.join(places.memory, name);
      writeFileSync(path.join(memory, 'memory.limit_in_bytes'), String(limits.memoryBytes));
      tryWrite(path.join(memory, 'memory.memsw.limit_in_bytes'), String(limits.memoryBytes));
      writeFileSync(path.join(places.pids, name, 'pids.max'), processes);
      // A group counts as one however many run in it: a fork bomb gets half of what the host gets, not all.
      if (places.cpu !== null) {
        const cpu = path.join(places.cpu, name);
        tryWrite(path.join(cpu, 'cpu.shares'), '512');
        const quota = quotaUs(limits);
        if (quota !== null)
          this.#isCpuBound =
            tryWrite(path.join(cpu, 'cpu.cfs_period_us'), String(CPU_PERIOD_US)) &&
            tryWrite(path.join(cpu, 'cpu.cfs_quota_us'), String(quota));
      }
    }
  }

  /** Files into which the launcher writes itself. */
  get procsFiles(): string[] {
    return this.#folders.map((folder) => path.join(folder, 'cgroup.procs'));
  }

  oomKills(): number {
    return this.counters().oomKills;
  }

  /** By what each resource is bounded as it was asked. */
  get boundBy(): { cpu: LimitedBy; memory: LimitedBy; processes: LimitedBy } {
    if (this.#kind === 'none') return { cpu: 'none', memory: 'none', processes: 'none' };
    return { cpu: this.#isCpuBound ? this.#kind : 'none', memory: this.#kind, processes: this.#kind };
  }

  /** What the kernel has counted; 0 where it does not, also once the groups are gone. */
  counters(): LimitCounters {
    const { memory, pids, cpu } = this.#by;
    const isUnified = this.#kind === 'cgroup2';
    const throttled = isUnified
      ? counted(cpu, 'cpu.stat', 'throttled_usec') / 1e3
      : counted(cpu, 'cpu.stat', 'throttled_time') / 1e6;
    return {
      oomKills: counted(memory, isUnified ? 'memory.events' : 'memory.oom_control', 'oom_kill'),
      failedForks: counted(pids, 'pids.events', 'max'),
      throttledMs: Math.round(throttled),
    };
  }

  /** Kills what is left and removes the groups; false when something would not die. */
  async remove(): Promise<boolean> {
    const left = await Promise.all(this.#folders.map(removeGroup));
    return left.every((gone) => gone);
  }
}

function groupsOf(places: CgroupPlaces, name: string) {
  const below = (parent: string | null): string | null => (parent === null ? null : path.join(parent, name));
  if (places.kind === 'none') return { memory: null, pids: null, cpu: null };
  if (places.kind === 'cgroup1')
    return { memory: below(places.memory), pids: below(places.pids), cpu: below(places.cpu) };
  const unified = below(places.unified);
  return { memory: unified, pids: unified, cpu: unified };
}

/** Of a period. The kernel takes no less than a millisecond. */
function quotaUs({ cpuCores }: Limits): number | null {
  return cpuCores === undefined ? null : Math.max(1000, Math.round(cpuCores * CPU_PERIOD_US));
}

/** A number of a file of names and numbers; 0 where it is not. */
function counted(folder: string | null, file: string, name: string): number {
  if (folder === null) return 0;
  const found = new RegExp(`^${name} (\\d+)$`, 'm').exec(readOrEmpty(path.join(folder, file)));
  return found === null ? 0 : Number(found[1]);
}

/** False where it is not in this kernel or not handed down to us. */
function tryWrite(file: string, value: string): boolean {
  try {
    writeFileSync(file, value);
    return true;
  } catch {
    return false;
  }
}

function killGroup(folder: string): void {
  try {
    writeFileSync(path.join(folder, 'cgroup.kill'), '1', { flag: 'r+' });
  } catch {
    for (const pid of readOrEmpty(path.join(folder, 'cgroup.procs')).split('\n')) {
      if (Number(pid) <= 1) continue;
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // It ended by itself meanwhile.
      }
    }
  }
}

async function removeGroup(folder: string): Promise<boolean> {
  for (let attempt = 0; attempt < REMOVE_TRIES; attempt++) {
    try {
      rmdirSync(folder);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    }
    killGroup(folder);
    await delay(attempt < 10 ? 2 : 20);
  }
  return false;
}
