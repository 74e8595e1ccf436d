/**
 * The disk as it fails in life: a sync that says EIO, a power cut that takes what was not synced, a disk that lies. Real
 * processes of ours run on it (`peers/disk.ts`); what they acknowledged is held against what is found afterwards.
 * L2 (acknowledged is on disk), L5 (no process before its journal entry), L8 (a failed append stops, and only stops).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { isRefusal, type StartProcess } from '../src/sandbox/executor.ts';
import { readAll } from '../src/store/conformance/scratch.ts';
import { open } from '../src/store/sqlite/engine-under-test.ts';
import { answers, eventually, joined, Rig } from './escapes/rig.ts';
import { type Dice, Disk, diceOf, hasCompiler } from './peers/disk.ts';
import type { Tried } from './peers/stubborn-writer.ts';

const patience = { timeout: 120_000 };
const fileOf = (place: string) => fileURLToPath(new URL(place, import.meta.url));
const openModule = new URL('../src/store/sqlite/engine-under-test.ts', import.meta.url).href;
const canRun = hasCompiler();
if (!canRun) process.stderr.write('SKIPPED: the tests of failing disks need a C compiler (cc)\n');

const children: ChildProcess[] = [];
const disks: Disk[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const disk of disks.splice(0)) disk.discard();
});

function newDisk(): Disk {
  const disk = new Disk();
  disks.push(disk);
  return disk;
}

function start(script: string, args: string[], env: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, [fileOf(script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  children.push(child);
  return child;
}

async function* linesOf<T>(child: ChildProcess): AsyncGenerator<T> {
  if (child.stdout === null) return;
  // The last line may be cut by the kill; only whole ones were surely said.
  for await (const line of createInterface({ input: child.stdout }))
    if (line.endsWith('}')) yield JSON.parse(line);
}

type Acknowledged = { stream: string; id: string; firstSeq: number };

/** Appends on the disk until `count` are acknowledged, then kills. */
async function appendUntilKilled(disk: Disk, count: number, lies?: string): Promise<Acknowledged[]> {
  const script = '../src/store/conformance/append-until-killed.ts';
  const child = start(script, [openModule, disk.root, '0'], disk.env(lies));
  const acknowledged: Acknowledged[] = [];
  for await (const one of linesOf<Acknowledged>(child)) {
    acknowledged.push(one);
    if (acknowledged.length === count) child.kill('SIGKILL');
  }
  return acknowledged;
}

/** What was acknowledged and is not there after the cut; the logs that are there must be whole. */
async function missingAfter(
  disk: Disk,
  acknowledged: Acknowledged[],
  name: string,
  how: { dice?: Dice; eventsOfAppend?: number } = {},
) {
  const image = path.join(disk.folder, name);
  disk.cut(image, how.dice);
  const store = await open(image);
  try {
    const missing: Acknowledged[] = [];
    for (const stream of new Set(acknowledged.map((one) => one.stream))) {
      const log = await readAll(store, stream);
      expect(log.map(({ seq }) => seq)).toEqual(Array.from({ length: log.length }, (_, n) => n + 1));
      // An append is two events: none may be there alone.
      expect(log.length % (how.eventsOfAppend ?? 2)).toBe(0);
      const mine = acknowledged.filter((one) => one.stream === stream);
      missing.push(...mine.filter(({ id, firstSeq }) => log[firstSeq - 1]?.id !== id));
    }
    return missing;
  } finally {
    await store.close();
  }
}

describe.runIf(canRun)('power loss under the SQLite store', () => {
  it.each([20, 300])('after %i acknowledged appends loses none of them', patience, async (count) => {
    const disk = newDisk();
    const acknowledged = await appendUntilKilled(disk, count);
    expect(acknowledged.length).toBeGreaterThanOrEqual(count);
    expect(await missingAfter(disk, acknowledged, 'worst')).toEqual([]);
    for (const seed of [1, 2, 3, 4])
      expect(await missingAfter(disk, acknowledged, `seed-${seed}`, { dice: diceOf(seed) })).toEqual([]);
  });

  it('is seen to lose them where the disk lies about syncs, so this test can fail', patience, async () => {
    const disk = newDisk();
    const acknowledged = await appendUntilKilled(disk, 50, 'scriptorium.db-wal');
    expect((await missingAfter(disk, acknowledged, 'worst')).length).toBeGreaterThan(0);
  });
});

describe.runIf(canRun)('a disk whose syncs fail', () => {
  const script = './peers/stubborn-writer.ts';

  it.each(['scriptorium.db-wal', 'scriptorium.db'])(
    'under %s: the store acknowledges nothing meanwhile, goes on when it is repaired, and loses nothing',
    patience,
    async (broken) => {
      const disk = newDisk();
      const child = start(script, [openModule, disk.root], disk.env());
      const tries: Tried[] = [];
      let refusals = 0;
      for await (const one of linesOf<Tried>(child)) {
        tries.push(one);
        expect(one.ended).not.toBe('bug');
        const isAcknowledged = one.ended !== 'unavailable';
        // Twice: the second time over what the first failure left behind.
        if (tries.length === 40 || tries.length === 160) disk.break(broken);
        if (!isAcknowledged) refusals += 1;
        if (!isAcknowledged && refusals % 25 === 0) disk.repair();
        if (tries.length > 300) child.kill('SIGKILL');
      }
      expect(refusals).toBeGreaterThanOrEqual(50);
      expect(acknowledgedDuring(tries)).toEqual([]);
      const acknowledged = tries.flatMap(({ id, firstSeq }) =>
        firstSeq === null ? [] : [{ stream: 's', id, firstSeq }],
      );
      expect(await missingAfter(disk, acknowledged, 'image', { eventsOfAppend: 1 })).toEqual([]);
    },
  );

  it(
    'when only checkpoints fail, costs no append and nothing of what was acknowledged',
    patience,
    async () => {
      const disk = newDisk();
      const child = start(script, [openModule, disk.root], disk.env());
      const acknowledged: Acknowledged[] = [];
      for await (const { id, ended, firstSeq } of linesOf<Tried>(child)) {
        expect(ended).toBe('ok');
        acknowledged.push({ stream: 's', id, firstSeq: firstSeq ?? 0 });
        if (acknowledged.length === 200) disk.break('scriptorium.db$');
        if (acknowledged.length === 280) disk.repair();
        if (acknowledged.length === 360) child.kill('SIGKILL');
      }
      expect(await missingAfter(disk, acknowledged, 'image', { eventsOfAppend: 1 })).toEqual([]);
    },
  );
});

/** Between the first refusal of a failure and its last, nothing may be said to be written. */
function acknowledgedDuring(tries: Tried[]): Tried[] {
  return tries.filter(({ ended }, n) => {
    const [before, after] = [tries[n - 1], tries[n + 1]];
    return ended !== 'unavailable' && before?.ended === 'unavailable' && after?.ended === 'unavailable';
  });
}

/** A host on this disk, and a client of it. */
async function hostOn(disk: Disk, lies?: string): Promise<Rig> {
  const stateDir = path.join(disk.root, 'host');
  start('../src/sandbox/host/main.ts', ['--state-dir', stateDir], disk.env(lies));
  await eventually('the host answers', () => answers(stateDir));
  return Rig.start({ stateDir });
}

/** Starts commands until some were seen to run, cuts the power, and gives the next host what is left of the disk. */
async function commandsThenPowerCut(disk: Disk, rig: Rig): Promise<StartProcess[]> {
  await rig.create('s');
  const requests = Array.from({ length: 12 }, () =>
    rig.start('s', ['/bin/sh', '-c', 'echo runs; sleep 20'], { waitMs: 200 }),
  );
  const seen: StartProcess[] = [];
  const asked = requests.map(async (request) => {
    const read = await rig.client.startProcess(request).catch(() => null);
    if (read !== null && !isRefusal(read) && joined(read).stdout !== '') seen.push(request);
  });
  await eventually('some run', () => seen.length >= 4);
  await rig.killHost();
  await Promise.all(asked);
  const before = path.join(disk.folder, 'before');
  renameSync(disk.root, before);
  disk.cut(disk.root, undefined, before);
  await rig.reach();
  return seen;
}

describe.runIf(canRun)('a host whose journal cannot be synced', () => {
  it(
    'runs no command that it could not journal, nor any other of that session until it is started anew',
    patience,
    async () => {
      const disk = newDisk();
      const rig = await hostOn(disk);
      await rig.create('s');
      await rig.create('other');
      expect(await rig.sh('s', 'echo before >> ran')).toMatchObject({ process: { state: 'exited' } });
      disk.break('/sessions/s/journal$');
      await expect(rig.sh('s', 'echo broken >> ran')).rejects.toThrow(/EIO/);
      expect(await rig.sh('other', 'echo works')).toMatchObject({ stdout: 'works\n' });
      disk.repair();
      // A journal that may lie is worse than none.
      await expect(rig.sh('s', 'echo repaired >> ran')).rejects.toThrow(/EIO/);
      await rig.killHost();
      await rig.reach();
      await rig.create('s');
      expect(await rig.sh('s', 'cat ran')).toMatchObject({ stdout: 'before\n' });
      await rig.close();
    },
  );
});

describe.runIf(canRun)('power loss under a host', () => {
  it(
    'leaves every command that was seen to run in the journal, and none of them runs again',
    patience,
    async () => {
      const disk = newDisk();
      const rig = await hostOn(disk);
      const seen = await commandsThenPowerCut(disk, rig);
      // Two sessions of one uid could reach into each other's folders.
      if (process.getuid?.() === 0)
        expect(Number(readFileSync(path.join(rig.stateDir, 'next-uid'), 'utf8'))).toBeGreaterThan(200_000);
      for (const request of seen) {
        expect(await rig.client.callStatus(request)).toMatchObject({ process: { state: 'lost' } });
        expect(await rig.client.startProcess(request)).toMatchObject({ process: { state: 'lost' } });
      }
      await rig.close();
    },
  );

  it('is seen to forget them where the disk lies about the journal', patience, async () => {
    const disk = newDisk();
    const rig = await hostOn(disk, '/journal');
    const statuses = [];
    for (const request of await commandsThenPowerCut(disk, rig))
      statuses.push(await rig.client.callStatus(request).catch(() => null));
    expect(
      statuses.filter((status) => status === null || isRefusal(status) || status.kind === 'unknown'),
    ).not.toEqual([]);
    await rig.close();
  });
});
