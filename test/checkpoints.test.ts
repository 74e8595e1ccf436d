// Disks and checkpoints of real sandboxes, by every driver that can be had here: what a copy keeps, what a full disk does,
// what a death in the middle leaves.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Limits } from '../src/sandbox/executor.ts';
import { findPrograms } from '../src/sandbox/host/programs.ts';
import { Rig, specOf, unrefused } from './escapes/rig.ts';
import { describeTree, makeTree } from './peers/checkpoint-tree.ts';

const isRoot = process.getuid?.() === 0;
const has = (name: string): boolean =>
  ['/usr/sbin', '/usr/bin', '/sbin'].some((folder) => existsSync(path.join(folder, name)));
const hasBtrfs = isRoot && existsSync('/dev/loop-control') && has('mkfs.btrfs');
const hasExt4 = isRoot && existsSync('/dev/loop-control') && has('mkfs.ext4');
const drivers = [
  ...(hasBtrfs ? (['btrfs'] as const) : []),
  ...(hasExt4 ? (['ext4'] as const) : []),
  ...(hasBtrfs ? (['reflink'] as const) : []),
  'tar' as const,
];
const patience = 60_000;
const limits = (diskBytes: number): Limits => ({ ...specOf('any').limits, diskBytes });
const at = (session: string, checkpoint: string) => ({ session, fence: 1, checkpoint });

/** A file system of the test's own, where blocks can be shared. */
function sharingFolder(): { folder: string; end(): void } {
  const root = mkdtempSync(path.join(tmpdir(), 'scriptorium-sharing-'));
  const [image, folder] = [path.join(root, 'image'), path.join(root, 'mounted')];
  const run = (...argv: string[]) => execFileSync(argv[0] as string, argv.slice(1), { stdio: 'ignore' });
  run('truncate', '-s', '1G', image);
  run('mkfs.btrfs', '-q', image);
  run('mkdir', folder);
  run('mount', '-o', 'loop', image, folder);
  return {
    folder: path.join(folder, 'state'),
    end: () => {
      run('umount', folder);
      rmSync(root, { recursive: true });
    },
  };
}

async function node(rig: Rig, session: string, script: string): Promise<string> {
  const ran = await rig.run(session, ['/opt/scriptorium/bin/node', '-e', script], {
    maxOutputBytes: 4 << 20,
  });
  if (ran.process.state !== 'exited' || ran.process.exitCode !== 0) throw new Error(ran.stderr);
  return ran.stdout;
}

async function exported(rig: Rig, session: string, checkpoint: string): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; ; ) {
    const asked = { ...at(session, checkpoint), offset, maxBytes: 1000 };
    const piece = unrefused(await rig.client.readCheckpoint(asked));
    pieces.push(piece.data);
    offset += piece.data.length;
    if (piece.isEnd) return Buffer.concat(pieces);
  }
}

async function imported(rig: Rig, session: string, checkpoint: string, archive: Buffer) {
  const half = Math.floor(archive.length / 2);
  const first = { ...at(session, checkpoint), offset: 0, data: archive.subarray(0, half), isLast: false };
  unrefused(await rig.client.writeCheckpoint(first));
  const rest = { ...at(session, checkpoint), offset: half, data: archive.subarray(half), isLast: true };
  return rig.client.writeCheckpoint(rest);
}

describe.each(drivers)('disks kept as %s', (driver) => {
  let rig: Rig;
  let sharing: ReturnType<typeof sharingFolder> | null = null;
  let before: string;

  beforeAll(async () => {
    if (driver === 'reflink') sharing = sharingFolder();
    rig = await Rig.start({ diskDriver: driver, ...(sharing === null ? {} : { stateDir: sharing.folder }) });
    const info = await rig.create('origin', { limits: limits(200 << 20) });
    expect(info.disk?.driver).toBe(driver);
    expect(info.warnings.join()).toMatch(info.disk?.limitBytes === null ? /disk_bytes .* NOT enforced/ : /^/);
    await node(rig, 'origin', makeTree);
    before = await node(rig, 'origin', describeTree);
  }, patience);

  afterAll(async () => {
    try {
      await rig.close();
    } finally {
      sharing?.end();
    }
  }, patience);

  it(
    'a checkpoint gives back every file as it was, whatever was done to the tree since',
    async () => {
      const made = unrefused(await rig.client.checkpoint(at('origin', 'one')));
      expect(made).toMatchObject({ checkpoint: 'one', driver });
      await rig.sh('origin', 'chmod -R u+w . ; rm -rf * .[a-z]* ; echo other > hard; echo x > ~/y');
      const request = {
        session: 'origin',
        fence: 1,
        callId: 'restore-1',
        from: { session: 'origin', checkpoint: 'one' },
      };
      unrefused(await rig.client.restore(request));
      await rig.create('origin', { limits: limits(200 << 20) });
      expect(await node(rig, 'origin', describeTree)).toBe(before);
      // Asked again it does nothing more: what came since stays.
      await rig.sh('origin', 'echo since > since');
      unrefused(await rig.client.restore(request));
      expect((await rig.sh('origin', 'cat since; rm since')).stdout).toBe('since\n');
      const other = { ...request, from: { session: 'origin', checkpoint: 'two' } };
      expect(await rig.client.restore(other)).toMatchObject({ refused: 'call_mismatch' });
    },
    patience,
  );

  it(
    'a fork is a disk of its own for another session, which owns all of it',
    async () => {
      const origin = await node(rig, 'origin', describeTree);
      const from = { session: 'origin', checkpoint: 'one' };
      unrefused(await rig.client.restore({ session: 'fork', fence: 1, callId: 'f', from }));
      await rig.create('fork', { limits: limits(200 << 20) });
      expect(await node(rig, 'fork', describeTree)).toBe(before);
      expect((await rig.sh('fork', 'echo mine > hard && rm -r nested && cat deep/er/est/file')).stdout).toBe(
        'mine\n',
      );
      expect(await node(rig, 'origin', describeTree)).toBe(origin);
      // A fork of a fork, and one of the fork's own checkpoint.
      unrefused(await rig.client.checkpoint(at('fork', 'again')));
      const again = { session: 'fork', checkpoint: 'again' };
      unrefused(await rig.client.restore({ session: 'third', fence: 1, callId: 'f', from: again }));
      await rig.create('third', { limits: limits(200 << 20) });
      expect((await rig.sh('third', 'cat hard; echo x > y; stat -c %u y hard | uniq | wc -l')).stdout).toBe(
        'mine\n1\n',
      );
    },
    patience,
  );

  it(
    'an export is one archive, which an import makes the same disk of',
    async () => {
      const archive = await exported(rig, 'origin', 'one');
      const taken = unrefused(await imported(rig, 'elsewhere', 'moved', archive));
      expect(taken.checkpoint).toMatchObject({ checkpoint: 'moved', sizeBytes: archive.length });
      const from = { session: 'elsewhere', checkpoint: 'moved' };
      unrefused(await rig.client.restore({ session: 'elsewhere', fence: 1, callId: 'i', from }));
      await rig.create('elsewhere', { limits: limits(200 << 20) });
      expect(await node(rig, 'elsewhere', describeTree)).toBe(before);
    },
    patience,
  );

  it(
    'a removed checkpoint is gone, its name stays used, and disks made from it stay',
    async () => {
      unrefused(await rig.client.checkpoint(at('origin', 'brief')));
      unrefused(await rig.client.removeCheckpoint(at('origin', 'brief')));
      unrefused(await rig.client.removeCheckpoint(at('origin', 'brief')));
      expect(await rig.client.checkpoint(at('origin', 'brief'))).toMatchObject({
        refused: 'unknown_checkpoint',
      });
      const { checkpoints } = unrefused(await rig.client.checkpoints({ session: 'origin', fence: 1 }));
      expect(checkpoints.map(({ checkpoint }) => checkpoint)).toEqual(['one']);
      expect(unrefused(await rig.client.checkpoint(at('origin', 'one')))).toEqual(checkpoints[0]);
    },
    patience,
  );

  it(
    'all of it outlives a host that is killed, and nothing of it outlives the session',
    async () => {
      await rig.killHost();
      await rig.reach();
      await rig.create('origin', { limits: limits(200 << 20), fence: 2 });
      const asked = { fence: 2, maxOutputBytes: 4 << 20 };
      const ran = await rig.run('origin', ['/opt/scriptorium/bin/node', '-e', describeTree], asked);
      expect(ran.stdout.split('\n').slice(1)).toEqual(before.split('\n').slice(1));
      const listed = unrefused(await rig.client.checkpoints({ session: 'origin', fence: 2 }));
      expect(listed.checkpoints.map(({ checkpoint }) => checkpoint)).toEqual(['one']);
      for (const session of ['origin', 'fork', 'third', 'elsewhere'])
        unrefused(await rig.client.destroySandbox({ session, fence: 9, removeDisk: true }));
      expect(readdirSync(path.join(rig.stateDir, 'sessions'))).toEqual([]);
    },
    patience,
  );
});

describe.each(drivers.filter((driver) => driver === 'btrfs' || driver === 'ext4'))(
  'a disk of %s with a size',
  (driver) => {
    let rig: Rig;
    beforeAll(async () => {
      rig = await Rig.start({ diskDriver: driver });
    });
    afterAll(() => rig.close(), patience);

    it(
      'is full for the session that fills it, and for nobody else',
      async () => {
        await rig.create('filler', { limits: limits(64 << 20) });
        await rig.create('other', { limits: limits(64 << 20) });
        const filled = await rig.sh('filler', 'dd if=/dev/zero of=big bs=1M count=1000; echo ended >&2');
        expect(filled.stderr).toMatch(/No space left on device|Disk quota exceeded/);
        expect(filled.process).toMatchObject({ state: 'exited' });
        // Calls are journalled and answered as ever: the host's journal is not on that disk.
        expect((await rig.sh('filler', 'echo still here')).stdout).toBe('still here\n');
        expect((await rig.sh('filler', 'echo x > more; echo $?')).stdout).not.toBe('0\n0\n');
        expect(
          (await rig.sh('other', 'dd if=/dev/zero of=big bs=1M count=20 2>/dev/null && stat -c %s big'))
            .stdout,
        ).toBe(`${20 << 20}\n`);
        expect((await rig.sh('filler', 'rm big && sync && echo x > more && cat more')).stdout).toBe('x\n');
      },
      patience,
    );

    it(
      'bounds a bomb of empty files, and the disk can be removed after it',
      async () => {
        await rig.create('bomb', { limits: limits(16 << 20) });
        const script =
          'let n = 0; try { for (;; n++) fs.writeFileSync("f" + n, "") } catch (e) { console.log(n, e.code) }';
        const ran = await rig.run('bomb', ['/opt/scriptorium/bin/node', '-e', script], {
          timeoutMs: 50_000,
          waitMs: 55_000,
        });
        expect(ran.stdout).toMatch(/^\d+ (ENOSPC|Unknown system error -122)\n$/);
        unrefused(await rig.client.destroySandbox({ session: 'bomb', fence: 1, removeDisk: true }));
        expect(existsSync(path.join(rig.stateDir, 'sessions', 'bomb'))).toBe(false);
      },
      patience,
    );

    it(
      'is refused with no_space, and stays as it was, where a restore does not fit into it',
      async () => {
        const big = 'dd if=/dev/urandom of=big bs=1M count=40 2>/dev/null; echo old > mark';
        await rig.create('large', { limits: limits(64 << 20) });
        await rig.sh('large', big);
        unrefused(await rig.client.checkpoint(at('large', 'c')));
        const archive = await archiveOf(rig, 'large', 'c');
        await rig.create('small', { limits: limits(24 << 20) });
        await rig.sh('small', 'echo mine > mark');
        await sent(rig, 'small', 'c', archive);
        const restore = {
          session: 'small',
          fence: 1,
          callId: 'r',
          from: { session: 'small', checkpoint: 'c' },
        };
        expect(await rig.client.restore(restore)).toMatchObject({ refused: 'no_space' });
        expect((await rig.sh('small', 'cat mark; ls')).stdout).toBe('mine\nmark\n');
      },
      patience,
    );
  },
);

async function archiveOf(rig: Rig, session: string, checkpoint: string): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for (let offset = 0; ; ) {
    const asked = { ...at(session, checkpoint), offset, maxBytes: 8 << 20 };
    const piece = unrefused(await rig.client.readCheckpoint(asked));
    pieces.push(piece.data);
    offset += piece.data.length;
    if (piece.isEnd) return Buffer.concat(pieces);
  }
}

async function sent(rig: Rig, session: string, checkpoint: string, archive: Buffer): Promise<void> {
  for (let offset = 0; offset < archive.length; offset += 8 << 20) {
    const data = archive.subarray(offset, offset + (8 << 20));
    const isLast = offset + data.length === archive.length;
    unrefused(await rig.client.writeCheckpoint({ ...at(session, checkpoint), offset, data, isLast }));
  }
}

describe.skipIf(!hasBtrfs || findPrograms().runsc === null)('a disk of btrfs under gVisor', () => {
  it(
    'is bounded, kept and forked as under bubblewrap, and forks go from one to the other',
    async () => {
      const rig = await Rig.start({ diskDriver: 'btrfs' });
      const spec = { isolation: 'gvisor' as const, limits: limits(64 << 20) };
      expect((await rig.create('a', spec)).disk).toEqual({ driver: 'btrfs', limitBytes: 64 << 20 });
      const filled = await rig.sh('a', 'echo one > f; dd if=/dev/zero of=big bs=1M count=200; rm big');
      expect(filled.stderr).toMatch(/Disk quota exceeded|No space left/);
      unrefused(await rig.client.checkpoint(at('a', 'c')));
      const from = { session: 'a', checkpoint: 'c' };
      for (const session of ['b', 'd'])
        unrefused(await rig.client.restore({ session, fence: 1, callId: 'r', from }));
      await rig.create('b', spec);
      await rig.create('d', { limits: limits(64 << 20) });
      for (const session of ['b', 'd']) {
        const ran = await rig.sh(
          session,
          'echo two >> f && mkdir new && echo x > new/g && cat f new/g && stat -c %u f new',
        );
        expect(ran.stdout).toBe('one\ntwo\nx\n1000\n1000\n');
      }
      await rig.close();
    },
    patience,
  );
});
