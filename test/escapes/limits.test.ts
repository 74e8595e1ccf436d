// [32] Bombs and loops against real limits: each is held, the sandbox lives on where it can, and what ran into which
// limit is said. Once where control groups hold, and once by an ordinary user's host, which has none.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LimitHit, Limits, ProcessState } from '../../src/sandbox/executor.ts';
import { findCgroups } from '../../src/sandbox/local/cgroup.ts';
import { answers, eventually, processesNamed, Rig, specOf, unrefused } from './rig.ts';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const hasGroups = findCgroups().kind !== 'none';

let rig: Rig;
beforeAll(async () => {
  rig = await Rig.start();
});
afterAll(() => rig.close());

const limited = (more: Partial<Limits>) => ({ limits: { ...specOf('x').limits, ...more } });
const reached = (process: ProcessState, name: LimitHit['limit']): LimitHit | undefined =>
  process.state === 'running' ? undefined : process.limits?.find(({ limit }) => limit === name);

const forks = (count: number): string =>
  `perl -e '$| = 1; my $failed = 0; for (1..${count}) { my $pid = fork; if (!defined $pid) { $failed++ } elsif (!$pid) { sleep 60; exit } } print "$failed failed\\n"; kill 9, -$$'`;
/** Spins in four processes for that long, then says how much processor time they had, per second. */
const loops = (seconds: number): string =>
  `perl -e 'for (1..4) { if (!fork) { my $end = time + ${seconds}; 1 while time < $end; exit } } my $began = time; 1 while wait != -1; my (undef, undef, $user, $system) = times; print(($user + $system) / ${seconds})'`;
const eatMemory = `perl -e 'my @all; push @all, "x" x 1000000 while 1'`;

describe.runIf(hasGroups)('by control groups', () => {
  it('a fork bomb meets its limit, and how many starts failed is told', async () => {
    await rig.create('forks', limited({ processes: 40 }));
    const { process } = await rig.sh('forks', `setsid ${forks(200)}; true`);
    expect(reached(process, 'processes')).toMatchObject({ value: 40, amount: expect.any(Number) });
    expect(reached(process, 'processes')?.amount).toBeGreaterThanOrEqual(100);
    expect((await rig.sh('forks', 'echo alive')).stdout).toBe('alive\n');
  });

  it('a child that eats all memory is killed, and told of, though its parent goes on', async () => {
    await rig.create('memory', limited({ memoryBytes: 64 << 20 }));
    const ran = await rig.sh('memory', `${eatMemory}; echo went on`);
    expect(ran).toMatchObject({ stdout: 'went on\n', process: { exitCode: 0, endedBy: null } });
    expect(reached(ran.process, 'memory_bytes')).toMatchObject({ value: 64 << 20, amount: 1 });
    const quiet = await rig.sh('memory', 'true');
    expect(quiet.process).not.toHaveProperty('limits');
  });

  it('a memfd bomb is charged like any other memory, and told as that', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-limits-'));
    const source = path.resolve(import.meta.dirname, '../../attack/probes/kernel.c');
    execFileSync('cc', ['-O1', '-static', '-o', path.join(folder, 'probe'), source]);
    const content = readFileSync(path.join(folder, 'probe'));
    rmSync(folder, { recursive: true });
    await rig.create('memfd', limited({ memoryBytes: 64 << 20 }));
    const edits = [{ path: '/workspace/probe', content, mode: 0o755 }];
    unrefused(await rig.client.applyEdits({ session: 'memfd', fence: 1, callId: 'probe', edits }));
    const { process } = await rig.run('memfd', ['./probe', 'memfd']);
    expect(process).toMatchObject({ signal: 'SIGKILL', endedBy: 'memory' });
    expect(reached(process, 'memory_bytes')).toMatchObject({ value: 64 << 20 });
  });

  it('a process in the background that is killed for memory is told to whoever asks next', async () => {
    const limits = limited({ memoryBytes: 64 << 20 });
    await rig.create('behind', limits);
    await rig.sh('behind', `(sleep 0.3; ${eatMemory}) >/dev/null 2>&1 &`);
    let told: LimitHit[] = [];
    await eventually('it is told', async () => {
      // It may die while a call runs, and is told with that.
      const { process } = await rig.sh('behind', 'true');
      const next = unrefused(await rig.client.createSandbox(specOf('behind', limits)));
      told = [reached(process, 'memory_bytes') ?? [], next.limitHits ?? []].flat();
      return told.length > 0;
    });
    expect(told).toMatchObject([{ limit: 'memory_bytes', value: 64 << 20, amount: 1 }]);
  });

  it('busy loops get a tenth of a core and no more, and being held back is told', async () => {
    const info = await rig.create('busy', limited({ cpuCores: 0.1 }));
    expect(info.limits).toContainEqual({ limit: 'cpu_cores', value: 0.1, by: info.limitsBy });
    const ran = await rig.sh('busy', loops(2));
    // The quota bounds it from above however loaded the machine is; without one they take all that is idle.
    expect(Number(ran.stdout)).toBeGreaterThan(0);
    expect(Number(ran.stdout)).toBeLessThan(0.3);
    expect(reached(ran.process, 'cpu_cores')).toMatchObject({ value: 0.1, amount: expect.any(Number) });
  });
});

describe('by the host', () => {
  it('a flood of output is cut at its limit and a call at its time, with all that left its group', async () => {
    await rig.create('flood', limited({ outputBytes: 100_000, wallTimeMs: 700 }));
    const script = `perl -e '$0 = "left987663"; sleep 60' & setsid perl -e '$0 = "left987663"; sleep 60' & yes`;
    const ran = await rig.sh('flood', script, { maxOutputBytes: 10 << 20 });
    expect(ran.stdout.length).toBe(100_000);
    expect(ran.process).toMatchObject({ endedBy: 'timeout' });
    expect(reached(ran.process, 'wall_time_ms')).toMatchObject({ value: 700 });
    expect(reached(ran.process, 'output_bytes')).toMatchObject({ value: 100_000, amount: ran.droppedBytes });
    expect(ran.droppedBytes).toBeGreaterThan(0);
    await eventually('nothing is left', () => processesNamed('left987663').length === 0);
  });
});

/** A clone may lie where no other user can look. */
const main = path.resolve(import.meta.dirname, '../../src/sandbox/host/main.ts');
const canLook =
  isRoot && spawnSync('test', ['-r', main], { uid: NOBODY, gid: NOBODY, cwd: '/' }).status === 0;
if (isRoot && !canLook)
  console.warn("this checkout is closed to other users: an ordinary user's host is not tried");

describe.runIf(canLook)("by an ordinary user's host, which may write no control group", () => {
  let own: Rig;

  beforeAll(async () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-ordinary-'));
    chownSync(stateDir, NOBODY, NOBODY);
    const args = ['--disable-warning=ExperimentalWarning', main, '--state-dir', stateDir];
    spawn(process.execPath, [...args, '--owner-grace-ms', '20000'], {
      ...{
        uid: NOBODY,
        gid: NOBODY,
        cwd: '/',
        env: { PATH: process.env.PATH },
        stdio: 'ignore',
        detached: true,
      },
    }).unref();
    await eventually('the host answers', () => answers(stateDir));
    own = await Rig.start({ stateDir });
  });
  afterAll(() => own.close());

  it('says what each limit is worth, and warns of what it cannot keep', async () => {
    const info = await own.create('plain', limited({ cpuCores: 0.5, wallTimeMs: 5_000 }));
    expect(info.limitsBy).toBe('rlimits');
    expect(info.limits).toEqual(
      expect.arrayContaining([
        { limit: 'cpu_cores', value: null, by: 'none' },
        { limit: 'memory_bytes', value: 256 << 20, by: 'rlimit_per_process' },
        { limit: 'processes', value: 128, by: 'rlimit' },
        { limit: 'open_files', value: 1024, by: 'rlimit' },
        { limit: 'wall_time_ms', value: 5_000, by: 'host' },
      ]),
    );
    expect(info.warnings).toEqual(
      expect.arrayContaining([
        expect.stringContaining('cpu_cores 0.5 is NOT enforced'),
        expect.stringContaining('per process only'),
      ]),
    );
  });

  it('holds a fork bomb, one process that eats memory, and the time of a call', async () => {
    await own.create('held', limited({ processes: 40, memoryBytes: 64 << 20, wallTimeMs: 3_000 }));
    const failed = Number.parseInt((await own.sh('held', `setsid ${forks(200)} | cat`)).stdout, 10);
    expect(failed).toBeGreaterThanOrEqual(150);
    const memory = await own.sh('held', `${eatMemory} 2>/dev/null; echo went on`);
    expect(memory.stdout).toBe('went on\n');
    const slow = await own.run('held', ['sleep', '60']);
    expect(reached(slow.process, 'wall_time_ms')).toMatchObject({ value: 3_000 });
  });
});
