// Control groups by the files they are: what is written where, and what is read of it. The folders are plain ones; what
// a kernel does with such files is asked in test/escapes/limits.test.ts.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { effectiveLimits, type Limits, limitWarnings } from '../limits.ts';
import { type CgroupPlaces, SandboxCgroups } from './cgroup.ts';

const limits: Limits = {
  ...{ memoryBytes: 64 << 20, processes: 32, openFiles: 128, tmpBytes: 1 << 20, fileBytes: 1 << 20 },
  cpuCores: 0.5,
};

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'scriptorium-cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const below = (...names: string[]): string => {
  const folder = path.join(root, ...names);
  mkdirSync(folder, { recursive: true });
  return folder;
};
const wrote = (...names: string[]): string => readFileSync(path.join(root, ...names), 'utf8');

it('v2: a quota, memory, processes and no swap are written into one group, and counted there', () => {
  const groups = new SandboxCgroups({ kind: 'cgroup2', unified: below('own') }, 'box', limits);
  expect(wrote('own', 'box', 'cpu.max')).toBe('50000 100000');
  expect(wrote('own', 'box', 'memory.max')).toBe(String(64 << 20));
  expect(wrote('own', 'box', 'memory.swap.max')).toBe('0');
  expect(Number(wrote('own', 'box', 'pids.max'))).toBeGreaterThanOrEqual(32);
  expect(groups.boundBy).toEqual({ cpu: 'cgroup2', memory: 'cgroup2', processes: 'cgroup2' });
  expect(groups.counters()).toEqual({ oomKills: 0, failedForks: 0, throttledMs: 0 });
  const group = below('own', 'box');
  writeFileSync(path.join(group, 'memory.events'), 'low 0\noom 3\noom_kill 2\noom_group_kill 0\n');
  writeFileSync(path.join(group, 'pids.events'), 'max 7\n');
  writeFileSync(path.join(group, 'cpu.stat'), 'usage_usec 9\nnr_throttled 4\nthrottled_usec 1500000\n');
  expect(groups.counters()).toEqual({ oomKills: 2, failedForks: 7, throttledMs: 1500 });
});

const v1 = (more: Partial<Extract<CgroupPlaces, { kind: 'cgroup1' }>> = {}): CgroupPlaces => ({
  ...{ kind: 'cgroup1', memory: below('memory'), pids: below('pids'), cpu: below('cpu'), unified: null },
  ...more,
});

it('v1: period and quota are written into the group of the cpu, and each is counted in its own', () => {
  const groups = new SandboxCgroups(v1(), 'box', limits);
  expect([wrote('cpu', 'box', 'cpu.cfs_period_us'), wrote('cpu', 'box', 'cpu.cfs_quota_us')]).toEqual([
    '100000',
    '50000',
  ]);
  expect(groups.boundBy).toEqual({ cpu: 'cgroup1', memory: 'cgroup1', processes: 'cgroup1' });
  writeFileSync(path.join(root, 'memory/box/memory.oom_control'), 'under_oom 0\noom_kill 1\n');
  writeFileSync(path.join(root, 'pids/box/pids.events'), 'max 2\n');
  writeFileSync(path.join(root, 'cpu/box/cpu.stat'), 'nr_throttled 4\nthrottled_time 250000000\n');
  expect(groups.counters()).toEqual({ oomKills: 1, failedForks: 2, throttledMs: 250 });
});

it('a quota that nobody asked for is not written, and one of almost nothing is what the kernel takes', () => {
  const { cpuCores: _, ...without } = limits;
  new SandboxCgroups(v1(), 'free', without);
  expect(() => wrote('cpu', 'free', 'cpu.cfs_quota_us')).toThrow('ENOENT');
  new SandboxCgroups(v1(), 'least', { ...limits, cpuCores: 0.001 });
  expect(wrote('cpu', 'least', 'cpu.cfs_quota_us')).toBe('1000');
});

it.each([
  ['there is no group for the cpu', () => v1({ cpu: null })],
  [
    'its file refuses',
    () => {
      below('cpu', 'box', 'cpu.cfs_quota_us');
      return v1();
    },
  ],
])('where %s the quota is said not to be enforced', (_, places) => {
  const groups = new SandboxCgroups(places(), 'box', limits);
  expect(groups.boundBy.cpu).toBe('none');
  const effective = effectiveLimits(limits, groups.boundBy);
  expect(effective[0]).toEqual({ limit: 'cpu_cores', value: null, by: 'none' });
  expect(limitWarnings(limits, effective)).toEqual([
    expect.stringContaining('cpu_cores 0.5 is NOT enforced'),
  ]);
});

it('without groups nothing is counted and nothing is claimed', () => {
  const groups = new SandboxCgroups({ kind: 'none', unified: null }, 'box', limits);
  expect(groups.boundBy).toEqual({ cpu: 'none', memory: 'none', processes: 'none' });
  expect(groups.counters()).toEqual({ oomKills: 0, failedForks: 0, throttledMs: 0 });
});
