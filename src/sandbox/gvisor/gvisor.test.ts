// What only gVisor does, and what it does in another way than bubblewrap. All else is tested by the sandbox's tests with
// SCRIPTORIUM_TEST_ISOLATION=gvisor.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  cgroupsOf,
  eventually,
  isAlive,
  processesWith,
  Rig,
  specOf,
  unrefused,
} from '../../../test/escapes/rig.ts';
import { groupPrefix } from '../host/host.ts';
import { findPrograms } from '../host/programs.ts';
import { startGvisor } from './start.ts';

const programs = findPrograms();
const gvisor = { isolation: 'gvisor' } as const;

it('is refused with what to do where runsc is not there, and nothing else is started (S4)', async () => {
  const machine = {
    programs: { ...programs, runsc: null },
    cgroups: { kind: 'none', unified: null } as const,
    ...{ etcFolder: '/nowhere', folder: '/nowhere', capture: null },
  };
  const folders = { workspace: '/nowhere', outputs: '/nowhere', home: '/nowhere', uploads: '/nowhere' };
  const request = { name: 'x', folders, limits: specOf('x').limits, uid: null, binds: [], network: null };
  expect(await startGvisor(machine, request)).toMatchObject({
    refused: 'isolation_unavailable',
    message: expect.stringContaining('scripts/bootstrap.mjs gvisor'),
  });
});

describe.skipIf(programs.runsc === null)('a sandbox with gVisor', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
    await rig.create('s', gvisor);
  });
  afterAll(() => rig.close());

  it('has a kernel of its own, and the user, the folders and the tools of any other', async () => {
    const { stdout } = await rig.sh(
      's',
      'uname -r; id -u; pwd; ls /opt/scriptorium/bin; git init -q . && echo git',
    );
    expect(stdout.split('\n').slice(1)).toEqual(['1000', '/workspace', 'node', 'git', '']);
    expect(stdout.split('\n')[0]).not.toBe(release());
  });

  it('lists and copies links, of whose attributes it cannot tell', async () => {
    const ran = await rig.sh('s', 'touch a && ln -s a b && ls -la && cp -a b c && readlink c');
    expect(ran).toMatchObject({ stderr: '', process: { exitCode: 0 } });
  });

  it('keeps its PID 1 from what the session signals', async () => {
    const ran = await rig.sh('s', 'kill -9 1; kill -STOP 1; kill -9 -1');
    expect(ran.stderr).toMatch(/not permitted/);
    expect((await rig.sh('s', 'echo alive')).stdout).toBe('alive\n');
  });

  it('ends a tree that forks as fast as it can', async () => {
    const bomb = "perl -e 'for (;;) { my $p = fork; next unless defined $p; exit if $p }'";
    const start = rig.start('s', ['/bin/sh', '-c', `for i in 1 2 3; do ${bomb} & done; sleep 1000`], {
      waitMs: 0,
    });
    unrefused(await rig.client.startProcess(start));
    await delay(500);
    expect(await rig.client.terminateProcess(start)).toEqual({});
    const { stdout } = await rig.sh('s', 'cat /proc/[0-9]*/comm; echo alive');
    expect(stdout).toContain('alive');
    expect(stdout).not.toContain('perl');
  });

  it.each([
    ['memory', 'x = bytearray(1 << 20)\nwhile True: x += x'],
    ['processes', 'import os, time\nwhile True:\n  if os.fork() == 0: time.sleep(1000)'],
  ])(
    'a bomb of %s ends its own sandbox at the most, and no other',
    async (_, python) => {
      await rig.create('bomb', gvisor);
      const start = rig.start('bomb', ['python3', '-c', python], { timeoutMs: 20_000 });
      const [ended] = await Promise.all([rig.client.startProcess(start), rig.sh('s', 'echo other')]);
      expect(unrefused(ended).process.state).not.toBe('running');
      expect((await rig.sh('s', 'echo other')).stdout).toBe('other\n');
      await rig.client.destroySandbox({ session: 'bomb', fence: 1, removeDisk: true });
      await rig.create('bomb', gvisor);
      expect((await rig.sh('bomb', 'echo again')).stdout).toBe('again\n');
      await rig.client.destroySandbox({ session: 'bomb', fence: 1, removeDisk: true });
    },
    60_000,
  );

  it('leaves no kernel, no file server and no folder when it is destroyed (S5)', async () => {
    const sandboxes = (): string[] => readdirSync(path.join(rig.stateDir, 'gvisor'));
    const before = sandboxes();
    await rig.create('gone', gvisor);
    const name = sandboxes().find((one) => !before.includes(one)) as string;
    const members = membersOf(name);
    expect(members.length).toBeGreaterThan(2);
    await rig.client.destroySandbox({ session: 'gone', fence: 1, removeDisk: true });
    expect([...members, ...membersOf(name)].filter(isAlive)).toEqual([]);
    expect(sandboxes()).toEqual(before);
  });
});

/** The file server and the processes that run what the session runs do not name it; their control group does. */
function membersOf(name: string): number[] {
  const named = readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(name);
    } catch {
      return false;
    }
  });
  return [...new Set([...named.map(Number), ...processesWith(name)])];
}

describe.skipIf(programs.runsc === null)('a host with gVisor that is killed', () => {
  it('leaves nothing alive and no cgroup; the next one removes what is left on disk (S5)', async () => {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-gvisor-'));
    const rig = await Rig.start({ stateDir });
    await rig.create('s', gvisor);
    unrefused(await rig.client.startProcess(rig.start('s', ['sleep', '1000'], { waitMs: 0 })));
    const ours = groupPrefix(stateDir);
    const members = membersOf(ours);
    expect(members.length).toBeGreaterThan(2);
    const pid = await rig.killHost();
    await eventually(
      'its kernels and file servers end',
      () => [...members, ...membersOf(ours)].filter(isAlive).length === 0,
    );
    await eventually('its cgroups go', () => cgroupsOf(pid).length === 0);
    await rig.reach();
    await eventually('the folder is empty', () => readdirSync(path.join(stateDir, 'gvisor')).length === 0);
    await rig.close();
    expect(existsSync(stateDir)).toBe(false);
    rmSync(stateDir, { recursive: true, force: true });
  });
});
