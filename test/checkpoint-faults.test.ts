// Checkpoints while something goes wrong beside them: programs that go on writing, a full disk of the host, a host that is
// killed.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { eventually, isAlive, Rig, unrefused } from './escapes/rig.ts';

const isRoot = process.getuid?.() === 0;
const hasBtrfs = isRoot && existsSync('/dev/loop-control') && existsSync('/usr/sbin/mkfs.btrfs');
const patience = 60_000;
const at = (session: string, checkpoint: string) => ({ session, fence: 1, checkpoint });

it('a program that writes all the time is held still while its files are copied, and goes on', async () => {
  const rig = await Rig.start({ diskDriver: 'tar' });
  await rig.create('busy');
  // Always in the same order: at any one moment the first so many are one ahead of the rest.
  const write = 'for (let n = 1; ; n++) for (let i = 0; i < 500; i++) fs.writeFileSync("f" + i, String(n))';
  const read = 'console.log(Array.from({ length: 500 }, (_, i) => fs.readFileSync("f" + i, "utf8")).join())';
  const start = rig.start('busy', ['/opt/scriptorium/bin/node', '-e', write], {
    waitMs: 0,
    timeoutMs: 60_000,
  });
  unrefused(await rig.client.startProcess(start));
  await eventually('it writes', async () => (await rig.sh('busy', 'cat f499')).stdout !== '');
  unrefused(await rig.client.checkpoint(at('busy', 'c')));
  const before = Number((await rig.sh('busy', 'cat f499')).stdout);
  await eventually('it goes on', async () => Number((await rig.sh('busy', 'cat f499')).stdout) > before + 1);
  const from = { session: 'busy', checkpoint: 'c' };
  unrefused(await rig.client.restore({ session: 'copy', fence: 1, callId: 'r', from }));
  await rig.create('copy');
  const ran = await rig.run('copy', ['/opt/scriptorium/bin/node', '-e', read]);
  const values = ran.stdout.trim().split(',');
  // The one that was being written may be empty.
  const steps = values.filter((value, i) => value !== '' && value !== (values[i - 1] || values[i - 2]));
  expect(steps.length).toBeLessThanOrEqual(2);
  await rig.close();
}, 60_000);

describe.skipIf(!isRoot)('a host whose own disk is full', () => {
  it(
    'in the middle of a checkpoint says so, keeps nothing half-made, and goes on',
    async () => {
      const stateDir = mkdtempSync(path.join(tmpdir(), 'scriptorium-narrow-'));
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', stateDir]);
      try {
        const rig = await Rig.start({ diskDriver: 'tar', stateDir: path.join(stateDir, 'state') });
        await rig.create('s');
        await rig.sh('s', 'dd if=/dev/urandom of=big bs=1M count=30 2>/dev/null; echo mine > mark');
        expect(await rig.client.checkpoint(at('s', 'c'))).toMatchObject({ refused: 'no_space' });
        expect(readdirSync(path.join(rig.stateDir, 'sessions/s/checkpoints'))).toEqual([]);
        expect((await rig.sh('s', 'cat mark; rm big')).stdout).toBe('mine\n');
        expect(unrefused(await rig.client.checkpoint(at('s', 'c')))).toMatchObject({
          driver: 'tar',
          files: 1,
        });
        await rig.client.destroySandbox({ session: 's', fence: 1, removeDisk: true });
        await rig.close();
      } finally {
        execFileSync('umount', ['-l', stateDir]);
        rmSync(stateDir, { recursive: true });
      }
    },
    patience,
  );
});

describe.skipIf(!hasBtrfs)('a host that is killed in the middle', () => {
  it.each([
    ['host.after-copy', 'checkpoint'],
    ['host.after-new-disk', 'restore'],
    ['host.after-restore', 'restore'],
  ])(
    'at %s leaves one whole disk, and the same request ends it',
    async (place, what) => {
      process.env.SCRIPTORIUM_FAILPOINTS = `${place}=kill@1`;
      const rig = await Rig.start({ diskDriver: 'btrfs' });
      process.env.SCRIPTORIUM_FAILPOINTS = '';
      await rig.create('s');
      await rig.sh('s', 'echo first > f');
      const ask = (): Promise<object> =>
        what === 'checkpoint'
          ? rig.client.checkpoint(at('s', 'c'))
          : rig.client.restore({
              session: 's',
              fence: 1,
              callId: 'r',
              from: { session: 's', checkpoint: 'c' },
            });
      if (what === 'restore') {
        unrefused(await rig.client.checkpoint(at('s', 'c')));
        await rig.sh('s', 'echo second > f');
      }
      const { pid } = await rig.client.hello();
      await expect(ask()).rejects.toThrow();
      await eventually('the host is dead', () => !isAlive(pid));
      await rig.reach();
      await rig.create('s');
      const now = (await rig.sh('s', 'cat f')).stdout;
      expect(['first\n', 'second\n']).toContain(now);
      // What was done already is not done again: what came since stays.
      const isDone = place === 'host.after-restore';
      if (isDone) await rig.sh('s', 'echo since > since');
      expect(await ask()).not.toHaveProperty('refused');
      await rig.create('s');
      if (isDone) expect((await rig.sh('s', 'cat since')).stdout).toBe('since\n');
      if (what === 'restore') expect((await rig.sh('s', 'cat f')).stdout).toBe('first\n');
      else
        expect(unrefused(await rig.client.checkpoints({ session: 's', fence: 1 })).checkpoints).toHaveLength(
          1,
        );
      await rig.close();
      await eventually('no loop device is left', () => !loops().includes(rig.stateDir));
    },
    patience,
  );
});

const loops = (): string => {
  const files = readdirSync('/sys/block').filter((name) => name.startsWith('loop'));
  return files
    .map((name) => path.join('/sys/block', name, 'loop/backing_file'))
    .flatMap((file) => (existsSync(file) ? readFileSync(file, 'utf8') : ''))
    .join('\n');
};
