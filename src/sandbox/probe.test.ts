import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { cgroupsOf } from '../../test/escapes/rig.ts';
import { bindProblem } from './local/bubblewrap.ts';
import { bwrapOptions } from './local/start.ts';
import { probe } from './probe.ts';

it('tries everything, leaves nothing, and names a remedy for every lack', async () => {
  const dataDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-probe-test-'));
  const checks = await probe({ dataDir });
  rmSync(dataDir, { recursive: true });
  const names = checks.map(({ check }) => check);
  expect(names).toEqual(
    expect.arrayContaining([
      'bubblewrap',
      'seccomp',
      'sandbox',
      'gvisor',
      'captured network',
      'cgroups',
      'git',
      'disk',
      'disks',
    ]),
  );
  for (const { check, ok, remedy } of checks)
    if (!ok) expect([check, typeof remedy]).toEqual([check, 'string']);
  expect(checks.find(({ check }) => check === 'disks')).toMatchObject({
    ok: true,
    found: expect.stringMatching(/^(btrfs|ext4|reflink|tar): /),
  });
  expect(cgroupsOf(process.pid)).toEqual([]);
});

it.each(['/dev/null/nowhere', '/proc/nowhere'])(
  'says what is wrong with the data directory %s',
  async (dataDir) => {
    const checks = await probe({ dataDir });
    expect(checks.find(({ check }) => check === 'disk')).toMatchObject({ ok: false });
  },
);

it('a bwrap that cannot be executed is named in one line', () => {
  expect(() => bwrapOptions('/dev/null')).toThrow(/^\/dev\/null does not run \(.*EACCES\): reinstall/);
});

it.each([
  '/',
  '/usr/share/x',
  '/etc/passwd',
  '/workspace',
  '/workspace/below',
  '/home/agent/.ssh',
  '/home',
  '/mnt/session/outputs/x',
  '/opt/scriptorium/bin/git',
  '/tmp/x',
  '/dev/fuse',
  '/run/docker.sock',
  '/witness/',
  '/witness/../workspace/x',
  'witness',
])('refuses an operator bind at %s, which is the sandbox itself or below something writable', (to) => {
  expect(bindProblem({ from: '/', to, readOnly: true })).toEqual(expect.any(String));
});

it.each(['/witness', '/opt/tools', '/mnt/data', '/srv/data', '/home/other'])('accepts one at %s', (to) => {
  expect(bindProblem({ from: '/', to, readOnly: true })).toBeNull();
});

it('refuses an operator bind of something that is not there', () => {
  expect(bindProblem({ from: '/no/such/thing', to: '/witness', readOnly: true })).toContain('no such file');
});
