/**
 * A session's disk and its checkpoints on this host: what is made, kept, restored, exported and imported, in the order that
 * lets any death in between leave a whole disk.
 *
 * Promises
 * - The journal is the truth: a checkpoint, and the disk that a restore made, exist from their record on. What was made
 *   before the record is a leftover, which the next attempt or the next use of the disk removes.
 * - A name of a checkpoint and a call id of a restore are used once; asking again answers the same.
 * - A refusal leaves the disk that was there, and the sandbox running unless it had to end for the last step.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import type {
  Checkpoint,
  CheckpointRead,
  CheckpointRef,
  CheckpointWritten,
  Refusal,
  SandboxInfo,
  SandboxSpec,
} from '../executor.ts';
import { pack, unpack } from '../snapshot/archive.ts';
import { checkArchive } from '../snapshot/archive-check.ts';
import {
  type Copied,
  type Disk,
  DiskRefused,
  type Kept,
  type Owner,
  type SessionDisk,
} from '../snapshot/disk.ts';
import type { Disks } from '../snapshot/disks.ts';
import { copyName } from '../snapshot/ledger.ts';
import type { Session } from './session.ts';

/** What a sandbox is started with. */
export type ReadyDisk = {
  root: string;
  mounts: string | null;
  owner: number | null;
  info: NonNullable<SandboxInfo['disk']>;
  warnings: string[];
};

type Nothing = Record<string, never>;

const ownerOf = (session: Session): Owner => ({ session: session.id, folder: session.folder });
const archiveOf = (session: Session, kept: Kept): string =>
  path.join(session.folder, 'checkpoints', `${kept.name}.tar.zst`);
/** Made for whoever reads it, and gone with the session's next opening. */
const exportOf = (session: Session, kept: Kept): string =>
  path.join(session.folder, 'exports', `${kept.name}.tar.zst`);

/** The session's disk, made if there is none, with the limit that is asked for. Throws `DiskRefused`. */
export async function readyDisk(disks: Disks, session: Session, spec: SandboxSpec): Promise<ReadyDisk> {
  const wantedBytes = spec.limits.diskBytes ?? null;
  const canMount = spec.isolation !== 'none';
  let disk = currentDisk(disks, session);
  if (disk === null) {
    const driver = await disks.choose(wantedBytes, canMount);
    disk = {
      driver,
      name: firstName(driver, session),
      owner: session.uid,
      limitBytes: bounded(driver, wantedBytes),
    };
    await (await disks.of(driver)).make(ownerOf(session), disk);
    await session.record({ type: 'disk', disk });
  }
  const keeper = await disks.of(disk.driver);
  if (!canMount && (disks.mountsOf(disk.driver) !== null || disk.owner !== session.uid))
    throw new DiskRefused(
      'isolation_unavailable',
      `the disk of this session (${disk.driver}) cannot be used without isolation`,
    );
  await keeper.open(ownerOf(session), disk);
  if (disk.limitBytes !== wantedBytes && bounded(disk.driver, wantedBytes) !== disk.limitBytes) {
    const limitBytes = await keeper.limit(ownerOf(session), disk, wantedBytes);
    disk = { ...disk, limitBytes };
    await session.record({ type: 'disk', disk });
  }
  await sweep(session, keeper);
  const { driver, limitBytes, owner } = disk;
  const warnings: string[] = [];
  if (wantedBytes !== null && limitBytes === null)
    warnings.push(`disk_bytes ${wantedBytes} is NOT enforced: a plain folder (${driver}) has no limit`);
  return {
    ...{ root: keeper.root(ownerOf(session), disk), mounts: disks.mountsOf(driver), owner },
    ...{ info: { driver, limitBytes }, warnings },
  };
}

/** Plain folders lie where they always did, so that nobody who looks for them is surprised. */
function firstName(driver: Disk['driver'], session: Session): string {
  return driver === 'reflink' || driver === 'tar' ? '' : session.ledger.nextDiskName();
}

function bounded(driver: Disk['driver'], limitBytes: number | null): number | null {
  return driver === 'btrfs' || driver === 'ext4' ? limitBytes : null;
}

/** Of sessions from before disks were written down: the folders are there, the record is not. */
function currentDisk(disks: Disks, session: Session): Disk | null {
  if (session.ledger.disk !== null) return session.ledger.disk;
  if (!existsSync(path.join(session.folder, 'workspace'))) return null;
  return { driver: disks.plainDriver(), name: '', owner: session.uid, limitBytes: null };
}

/** What a death in the middle of something left behind; once for each opening of the session. */
async function sweep(session: Session, keeper: SessionDisk): Promise<void> {
  if (session.isSwept) return;
  session.isSwept = true;
  const { folder, ledger } = session;
  for (const name of ['exports', 'incoming'])
    rmSync(path.join(folder, name), { recursive: true, force: true });
  await keeper.removeAll(ownerOf(session), ledger.names());
}

const unknown = ({ session, checkpoint }: CheckpointRef): Refusal => ({
  refused: 'unknown_checkpoint',
  message: `session ${session} has no checkpoint ${checkpoint} on this host`,
});

/** Failures of drivers are endings; so is a full disk of the host. */
async function refusable<T extends object>(act: () => Promise<T | Refusal>): Promise<T | Refusal> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof DiskRefused) return error.refusal;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') return { refused: 'no_space', message };
    throw error;
  }
}

export function makeCheckpoint(
  disks: Disks,
  session: Session,
  checkpoint: string,
): Promise<Checkpoint | Refusal> {
  return session.takeTurn(() =>
    refusable<Checkpoint>(async () => {
      const known = session.ledger.checkpoints.get(checkpoint);
      if (known === null) return unknown({ session: session.id, checkpoint });
      if (known !== undefined) return known.about;
      const disk = currentDisk(disks, session);
      if (disk === null)
        return {
          refused: 'no_sandbox',
          message: `session ${session.id} has no disk yet; create its sandbox first`,
        };
      const keeper = await disks.of(disk.driver);
      await keeper.open(ownerOf(session), disk);
      const startedMs = performance.now();
      const form = keeper.copy === null ? 'archive' : 'copy';
      const kept: Kept = { form, name: copyName(checkpoint), disk };
      const copied = await session.heldStill(() => keep(disks, session, keeper, kept));
      if (failpoints.on) await failpoint('host.after-copy');
      const tookMs = Math.round((performance.now() - startedMs) * 10) / 10;
      const about = { checkpoint, driver: disk.driver, ...copied, tookMs, madeAtMs: Date.now() };
      return recorded(session, about, kept);
    }),
  );
}

async function recorded(session: Session, about: Checkpoint, kept: Kept): Promise<Checkpoint> {
  await session.record({ type: 'checkpoint', about, kept });
  return about;
}

function keep(disks: Disks, session: Session, keeper: SessionDisk, kept: Kept): Promise<Copied> {
  const owner = ownerOf(session);
  if (keeper.copy !== null) return keeper.copy(owner, kept.disk, kept.name);
  const at = { programs: disks.programs, mounts: disks.mountsOf(kept.disk.driver), uid: kept.disk.owner };
  return pack(at, keeper.root(owner, kept.disk), archiveOf(session, kept));
}

/** `source`: the session that the checkpoint is of, where this host has it. */
export function restoreCheckpoint(
  disks: Disks,
  session: Session,
  source: Session | undefined,
  request: { callId: string; from: CheckpointRef },
): Promise<Nothing | Refusal> {
  const { callId, from } = request;
  return session.takeTurn(() =>
    refusable<Nothing>(async () => {
      const before = session.ledger.restored.get(callId);
      if (before?.session === from.session && before.checkpoint === from.checkpoint) return {};
      if (before !== undefined || session.call(callId) !== undefined)
        return { refused: 'call_mismatch', message: `call ${callId} was journalled with other content` };
      const entry = source?.ledger.checkpoints.get(from.checkpoint);
      if (source === undefined || !entry) return unknown(from);
      const old = currentDisk(disks, session);
      const disk = await diskFrom(disks, session, source, entry.kept);
      if (failpoints.on) await failpoint('host.after-new-disk');
      await session.endInTurn();
      await session.record({ type: 'disk', disk, restore: { callId, from } });
      if (failpoints.on) await failpoint('host.after-restore');
      session.giveUpEdits();
      // It is nobody's any more: what cannot be removed now is swept up later.
      if (old !== null)
        await (await disks.of(old.driver)).remove(ownerOf(session), old).catch((error: Error) => {
          process.stderr.write(`the disk before a restore was not removed: ${error.message}\n`);
        });
      return {};
    }),
  );
}

/** A new disk with what was kept. Copies stay with their own driver; of an archive, any driver can make one. */
async function diskFrom(disks: Disks, session: Session, source: Session, kept: Kept): Promise<Disk> {
  const owner = ownerOf(session);
  const wantedBytes = session.spec?.limits.diskBytes ?? kept.disk.limitBytes;
  const canMount = session.spec?.isolation !== 'none';
  const isCopy = kept.form === 'copy';
  const driver = isCopy ? kept.disk.driver : await disks.choose(wantedBytes, canMount);
  const disk: Disk = {
    ...{ driver, name: session.ledger.nextDiskName(), limitBytes: bounded(driver, wantedBytes) },
    owner: isCopy ? kept.disk.owner : session.uid,
  };
  const keeper = await disks.of(driver);
  await keeper.make(owner, disk, isCopy ? { of: ownerOf(source), kept } : undefined);
  if (isCopy) return disk;
  try {
    await keeper.open(owner, disk);
    const at = { programs: disks.programs, mounts: disks.mountsOf(driver), uid: disk.owner };
    await unpack(at, keeper.root(owner, disk), archiveOf(source, kept));
  } catch (error) {
    await keeper.remove(owner, disk).catch(() => {});
    throw error;
  }
  return disk;
}

export function removeCheckpoint(
  disks: Disks,
  session: Session,
  checkpoint: string,
): Promise<Nothing | Refusal> {
  return session.takeTurn(() =>
    refusable<Nothing>(async () => {
      const entry = session.ledger.checkpoints.get(checkpoint);
      if (!entry) return {};
      await session.record({ type: 'checkpoint-removed', checkpoint });
      const { kept } = entry;
      rmSync(exportOf(session, kept), { force: true });
      if (kept.form === 'archive') rmSync(archiveOf(session, kept), { force: true });
      else await (await disks.of(kept.disk.driver)).removeCopy(ownerOf(session), kept);
      return {};
    }),
  );
}

export function listCheckpoints(session: Session): { checkpoints: Checkpoint[] } {
  return { checkpoints: [...session.ledger.checkpoints.values()].flatMap((entry) => entry?.about ?? []) };
}

export function readArchive(
  disks: Disks,
  session: Session,
  request: { checkpoint: string; offset: number; maxBytes: number },
): Promise<CheckpointRead | Refusal> {
  return session.takeTurn(() =>
    refusable<CheckpointRead>(async () => {
      const entry = session.ledger.checkpoints.get(request.checkpoint);
      if (!entry) return unknown({ session: session.id, checkpoint: request.checkpoint });
      const { kept } = entry;
      let file = archiveOf(session, kept);
      if (kept.form === 'copy') {
        file = exportOf(session, kept);
        if (!existsSync(file)) await packCopy(disks, session, kept, file);
      }
      const sizeBytes = statSync(file).size;
      const data = Buffer.alloc(Math.max(0, Math.min(request.maxBytes, sizeBytes - request.offset)));
      const fd = openSync(file, 'r');
      try {
        for (let at = 0; at < data.length; )
          at += readSync(fd, data, at, data.length - at, request.offset + at);
      } finally {
        closeSync(fd);
      }
      return { data, sizeBytes, isEnd: request.offset + data.length >= sizeBytes };
    }),
  );
}

/** One export of a session is kept at a time: it is as large as the disk, compressed. */
async function packCopy(disks: Disks, session: Session, kept: Kept, file: string): Promise<void> {
  rmSync(path.dirname(file), { recursive: true, force: true });
  const keeper = await disks.of(kept.disk.driver);
  await keeper.open(ownerOf(session), kept.disk);
  const at = { programs: disks.programs, mounts: disks.mountsOf(kept.disk.driver), uid: kept.disk.owner };
  await pack(at, keeper.copyRoot(ownerOf(session), kept), file);
}

export function writeArchive(
  session: Session,
  request: { checkpoint: string; offset: number; data: Uint8Array; isLast: boolean },
): Promise<CheckpointWritten | Refusal> {
  const { checkpoint, offset, data, isLast } = request;
  return session.takeTurn(() =>
    refusable<CheckpointWritten>(async () => {
      const known = session.ledger.checkpoints.get(checkpoint);
      if (known === null) return unknown({ session: session.id, checkpoint });
      const receivedBytes = offset + data.length;
      if (known !== undefined) return { receivedBytes, checkpoint: known.about };
      const name = `${createHash('sha256').update(checkpoint).digest('hex').slice(0, 32)}.tar.zst`;
      const file = path.join(session.folder, 'incoming', name);
      mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
      const refusal = writePiece(file, offset, data);
      if (refusal !== null) return refusal;
      if (!isLast) return { receivedBytes, checkpoint: null };
      try {
        return { receivedBytes, checkpoint: await takeArchive(session, checkpoint, file, receivedBytes) };
      } finally {
        rmSync(file, { force: true });
      }
    }),
  );
}

function writePiece(file: string, offset: number, data: Uint8Array): Refusal | null {
  const fd = openSync(file, offset === 0 ? 'w' : 'a', 0o600);
  try {
    const { size } = statSync(file);
    if (size !== offset)
      return { refused: 'io_error', message: `${size} bytes of this import were received, not ${offset}` };
    for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at);
    fsyncSync(fd);
    return null;
  } catch (error) {
    // So that the same piece can be sent again when there is room.
    ftruncateSync(fd, offset);
    throw error;
  } finally {
    closeSync(fd);
  }
}

async function takeArchive(
  session: Session,
  checkpoint: string,
  file: string,
  sizeBytes: number,
): Promise<Checkpoint> {
  const startedMs = performance.now();
  const { files } = await checkArchive(file);
  const disk: Disk = { driver: 'tar', name: '', owner: session.uid, limitBytes: null };
  const kept: Kept = { form: 'archive', name: copyName(checkpoint), disk };
  mkdirSync(path.dirname(archiveOf(session, kept)), { recursive: true, mode: 0o700 });
  renameSync(file, archiveOf(session, kept));
  const tookMs = Math.round((performance.now() - startedMs) * 10) / 10;
  const about: Checkpoint = { checkpoint, driver: 'tar', sizeBytes, files, tookMs, madeAtMs: Date.now() };
  return recorded(session, about, kept);
}
