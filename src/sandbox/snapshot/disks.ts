/**
 * Which way disks are kept on this machine: the best that it can really do, or what the operator said.
 *
 * btrfs (root, loop devices, btrfs-progs), then ext4 images where a limit was asked for, then plain folders with shared
 * blocks, then plain folders. Each is tried, not guessed; what was asked and cannot be had is said in a warning.
 */
import { constants, copyFileSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';
import type { DiskDriver } from '../executor.ts';
import { BtrfsDisks } from './btrfs.ts';
import { DiskRefused, type Owner, type SessionDisk } from './disk.ts';
import { Ext4Disks } from './ext4.ts';
import type { DiskLedger } from './ledger.ts';
import { MountSpace } from './mount-space.ts';
import { PlainDisks } from './plain.ts';
import { findTool } from './tool.ts';

export type DiskChoice = DiskDriver | 'auto';
export const diskChoices: readonly DiskChoice[] = ['auto', 'btrfs', 'ext4', 'reflink', 'tar'];

type Mounted = { space: MountSpace; btrfs: BtrfsDisks; ext4: Ext4Disks };

export class Disks {
  readonly programs: Programs;
  readonly #stateDir: string;
  readonly #choice: DiskChoice;
  #mounted: Promise<Mounted> | null = null;
  #space: MountSpace | null = null;
  readonly #shared: PlainDisks;
  readonly #plain: PlainDisks;
  readonly #canShare: boolean;
  /** Why btrfs is not used; tried once in the life of a host. */
  #btrfsProblem: string | null = null;

  constructor(programs: Programs, stateDir: string, choice: DiskChoice) {
    this.programs = programs;
    this.#stateDir = stateDir;
    this.#choice = choice;
    this.#canShare = canShareBlocks(stateDir);
    this.#plain = new PlainDisks(programs, false);
    this.#shared = new PlainDisks(programs, true);
  }

  /** Throws `DiskRefused` where it cannot be had. */
  async of(driver: DiskDriver): Promise<SessionDisk> {
    if (driver === 'tar') return this.#plain;
    if (driver === 'reflink') return this.#shared;
    const { btrfs, ext4 } = await this.#mounts();
    return driver === 'btrfs' ? btrfs : ext4;
  }

  /** The mount namespace that disks of this driver are in, for the launcher; null: the machine's own. */
  mountsOf(driver: DiskDriver): string | null {
    return driver === 'btrfs' || driver === 'ext4' ? (this.#space?.file ?? null) : null;
  }

  /** For a new disk. `canMount`: whether what will use it enters the host's mount namespace. */
  async choose(limitBytes: number | null, canMount: boolean): Promise<DiskDriver> {
    if (this.#choice !== 'auto') return this.#choice;
    if (canMount && (await this.#hasBtrfs())) return 'btrfs';
    if (canMount && limitBytes !== null && hasLoops() && findTool('mkfs.ext4') !== null) return 'ext4';
    return this.plainDriver();
  }

  /** Of folders on the host's own file system. */
  plainDriver(): 'reflink' | 'tar' {
    return this.#canShare ? 'reflink' : 'tar';
  }

  async #hasBtrfs(): Promise<boolean> {
    if (this.#btrfsProblem !== null) return false;
    if (!hasLoops() || findTool('mkfs.btrfs') === null || findTool('btrfs') === null) return false;
    try {
      const { btrfs } = await this.#mounts();
      await btrfs.mounted();
      return true;
    } catch (error) {
      if (!(error instanceof DiskRefused)) throw error;
      this.#btrfsProblem = error.message;
      process.stderr.write(`disks are plain folders, since btrfs cannot be used here: ${error.message}\n`);
      return false;
    }
  }

  #mounts(): Promise<Mounted> {
    this.#mounted ??= MountSpace.open(this.programs.launch).then(
      (space) => {
        this.#space = space;
        return { space, btrfs: new BtrfsDisks(this.#stateDir, space), ext4: new Ext4Disks(space) };
      },
      (error: unknown) => {
        this.#mounted = null;
        throw error;
      },
    );
    return this.#mounted;
  }

  /** Whatever disks and copies the ledger of a session speaks of, and their leftovers. No sandbox of it may run. */
  async removeSession(of: Owner, ledger: DiskLedger): Promise<void> {
    const drivers = new Set<DiskDriver>(ledger.disk === null ? [] : [ledger.disk.driver]);
    for (const entry of ledger.checkpoints.values())
      if (entry?.kept.form === 'copy') drivers.add(entry.kept.disk.driver);
    const owner = { session: of.session, folder: of.folder };
    for (const driver of drivers)
      if (driver === 'btrfs' || driver === 'ext4') await (await this.of(driver)).removeAll(owner, new Set());
  }

  /** Call when no sandbox runs any more. */
  close(): void {
    this.#space?.close();
    this.#space = null;
    this.#mounted = null;
  }
}

function hasLoops(): boolean {
  return process.getuid?.() === 0 && existsSync('/dev/loop-control');
}

function canShareBlocks(folder: string): boolean {
  const file = path.join(folder, '.can-share-blocks');
  try {
    writeFileSync(file, 'x');
    copyFileSync(file, `${file}.copy`, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  } finally {
    for (const name of [file, `${file}.copy`]) rmSync(name, { force: true });
  }
}
