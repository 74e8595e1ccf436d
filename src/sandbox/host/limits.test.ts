// Limits of a session outside and inside its calls, through a real host: what is enforced, and what is said of it.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually, Rig, specOf, unrefused } from '../../../test/escapes/rig.ts';
import type { Limits } from '../executor.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await Rig.start();
});
afterAll(() => rig.close());

const limited = (more: Partial<Limits>) => ({ limits: { ...specOf('x').limits, ...more } });
const again = async (session: string, more: Partial<Limits>) =>
  unrefused(await rig.client.createSandbox(specOf(session, limited(more))));

describe('a call', () => {
  it('that would take longer than wall_time_ms is killed at it, and says which limit it was', async () => {
    await rig.create('wall', limited({ wallTimeMs: 300 }));
    const { process } = await rig.run('wall', ['sleep', '60'], { timeoutMs: 50_000 });
    expect(process).toMatchObject({ endedBy: 'timeout', limits: [{ limit: 'wall_time_ms', value: 300 }] });
    const own = await rig.run('wall', ['sleep', '60'], { timeoutMs: 100 });
    expect(own.process).toMatchObject({ endedBy: 'timeout' });
    expect(own.process).not.toHaveProperty('limits');
  });

  it('keeps output_bytes of what it writes, and says how much was not kept', async () => {
    await rig.create('flood', limited({ outputBytes: 5_000 }));
    const ran = await rig.sh('flood', 'head -c 20000 /dev/zero | tr "\\0" x', { maxOutputBytes: 10_000 });
    expect([ran.stdout.length, ran.droppedBytes]).toEqual([5_000, 15_000]);
    expect(ran.process).toMatchObject({
      exitCode: 0,
      limits: [{ limit: 'output_bytes', value: 5_000, amount: 15_000 }],
    });
  });

  it('that is ours, and not the agent’s, is bounded by neither', async () => {
    await rig.create('ours', limited({ outputBytes: 1_000, wallTimeMs: 200 }));
    const script = 'sleep 0.5; head -c 20000 /dev/zero';
    const ran = await rig.sh('ours', script, { isOurs: true });
    expect([ran.stdout.length, ran.process]).toMatchObject([20_000, { exitCode: 0, endedBy: null }]);
  });

  it('says the same of its limits to whoever reads it again', async () => {
    await rig.create('twice', limited({ outputBytes: 10 }));
    const request = rig.start('twice', ['/bin/sh', '-c', 'echo 0123456789abcdef']);
    const first = unrefused(await rig.client.startProcess(request));
    const second = unrefused(await rig.client.startProcess(request));
    expect(first.process).toMatchObject({ limits: [{ limit: 'output_bytes', amount: 7 }] });
    expect(second.process).toEqual(first.process);
  });
});

describe('a sandbox', () => {
  it('unused for idle_time_ms sleeps, whatever runs in its background; who wakes it is told once', async () => {
    const limits = { idleTimeMs: 200 };
    await rig.create('sleeper', limited(limits));
    await rig.sh('sleeper', 'sleep 987655 >/dev/null 2>&1 &');
    const asleep = async () => (await rig.client.hello()).sandboxes;
    const before = await asleep();
    await eventually('it sleeps', async () => (await asleep()) < before);
    const info = await again('sleeper', limits);
    expect(info).toMatchObject({ reused: false, limitHits: [{ limit: 'idle_time_ms', value: 200 }] });
    expect((await rig.sh('sleeper', 'cat /proc/[0-9]*/cmdline')).stdout).not.toContain('987655');
    expect(await again('sleeper', limits)).not.toHaveProperty('limitHits');
  });

  it('is told of its sleep also by the host that follows a killed one', async () => {
    const limits = { idleTimeMs: 100 };
    await rig.create('remembered', limited(limits));
    const before = (await rig.client.hello()).sandboxes;
    await eventually('it sleeps', async () => (await rig.client.hello()).sandboxes < before);
    await rig.killHost();
    await rig.reach();
    expect(await again('remembered', limits)).toMatchObject({ limitHits: [{ limit: 'idle_time_ms' }] });
  });

  it('that has lived for lifetime_ms ends with its calls, which say so; the next call has another, and the disk', async () => {
    const limits = { lifetimeMs: 1_000 };
    await rig.create('mortal', limited(limits));
    const ran = await rig.sh('mortal', 'echo kept > kept; sleep 60');
    expect(ran.process).toMatchObject({
      endedBy: 'lifetime',
      limits: [{ limit: 'lifetime_ms', value: 1_000 }],
    });
    expect((await rig.sh('mortal', 'cat kept')).stdout).toBe('kept\n');
    expect(await again('mortal', limits)).toMatchObject({ limitHits: [{ limit: 'lifetime_ms' }] });
  });

  it('says the effective value of each limit, and by what it is enforced', async () => {
    const info = await rig.create('honest', limited({ cpuCores: 0.5, wallTimeMs: 5_000 }));
    const by = Object.fromEntries((info.limits ?? []).map(({ limit, value, by }) => [limit, [value, by]]));
    expect(by).toMatchObject({
      open_files: [1024, 'rlimit'],
      wall_time_ms: [5_000, 'host'],
      lifetime_ms: [null, 'none'],
    });
    if (info.limitsBy === 'rlimits') expect(info.warnings.join()).toContain('cpu_cores 0.5 is NOT enforced');
    else
      expect(by).toMatchObject({ memory_bytes: [256 << 20, info.limitsBy], processes: [128, info.limitsBy] });
  });
});

it("sleep by the host's own clock is told where it ended something in the background, and only there", async () => {
  const own = await Rig.start({ idleMs: 300, idleWithProcessesMs: 600 });
  try {
    for (const session of ['quiet', 'busy']) await own.create(session);
    await own.sh('busy', 'sleep 987656 >/dev/null 2>&1 &');
    await eventually('both sleep', async () => (await own.client.hello()).sandboxes === 0);
    expect(await own.create('quiet')).not.toHaveProperty('limitHits');
    expect(await own.create('busy')).toMatchObject({ limitHits: [{ limit: 'idle_time_ms', value: 600 }] });
  } finally {
    await own.close();
  }
});
