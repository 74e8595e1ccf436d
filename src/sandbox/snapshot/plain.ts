/**
 * Disks as plain folders of the host's file system, bounded by nothing: what there is everywhere. Where that file system
 * can share blocks (xfs, btrfs), a copy is made by sharing them, file by file; otherwise checkpoints are archives.
 *
 * The first disk of a session lies in its own folder (name ''), later ones in `disks/`. Whoever walks them does so inside
 * a namespace of its own (S3); they are removed as the host removes a session (native/launch-remove.h).
 */
import { chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';
import { runContained } from './contained.ts';
import { type Copied, type Disk, diskFolders, type Kept, type Owner, type SessionDisk } from './disk.ts';
import { runTool } from './tool.ts';

const counting = 'cd /from && find . -mindepth 1 -printf x | wc -c';
const sharing = 'cp -a --reflink=always /from/. /to/';

export class PlainDisks implements SessionDisk {
  readonly #programs: Programs;
  readonly copy: SessionDisk['copy'];

  constructor(programs: Programs, canShare: boolean) {
    this.#programs = programs;
    this.copy = canShare ? (of, disk, name) => this.#copy(of, disk, name) : null;
  }

  root(of: Owner, disk: Disk): string {
    return disk.name === '' ? of.folder : path.join(of.folder, 'disks', disk.name);
  }

  copyRoot(of: Owner, kept: Kept): string {
    return path.join(of.folder, 'disks', kept.name);
  }

  async make(of: Owner, disk: Disk, kept?: { of: Owner; kept: Kept }): Promise<void> {
    if (disk.name !== '') await this.remove(of, disk);
    const root = this.root(of, disk);
    mkdirSync(root, { recursive: true, mode: 0o700 });
    for (const name of diskFolders) {
      mkdirSync(path.join(root, name), { recursive: true, mode: 0o700 });
      if (disk.owner !== null) chownSync(path.join(root, name), disk.owner, disk.owner);
    }
    if (kept === undefined) return;
    try {
      await this.#share(this.copyRoot(kept.of, kept.kept), root, kept.kept.disk.owner);
    } catch (error) {
      await this.remove(of, disk);
      throw error;
    }
  }

  async open(): Promise<void> {}

  async #copy(of: Owner, disk: Disk, name: string): Promise<Copied> {
    const target: Disk = { ...disk, name };
    const kept: Kept = { form: 'copy', name, disk };
    await this.make(of, target);
    try {
      const files = await this.#share(this.root(of, disk), this.copyRoot(of, kept), disk.owner);
      return { sizeBytes: null, files };
    } catch (error) {
      await this.removeCopy(of, kept);
      throw error;
    }
  }

  /** The three folders of `from`, as the user who owns both. Answers how many files there are. */
  async #share(from: string, to: string, uid: number | null): Promise<number> {
    let files = 0;
    for (const name of diskFolders) {
      const folders = [
        { from: path.join(from, name), name: 'from', readOnly: true },
        { from: path.join(to, name), name: 'to', readOnly: false },
      ];
      const about = { programs: this.#programs, mounts: null, uid, folders };
      const { stdout } = await runContained(about, `${sharing} && sync -f /to && ${counting}`);
      files += Number(stdout.trim());
    }
    return files;
  }

  async remove(of: Owner, disk: Disk): Promise<void> {
    const root = this.root(of, disk);
    const places = disk.name === '' ? diskFolders.map((name) => path.join(root, name)) : [root];
    for (const place of places) await this.#removeTree(place);
  }

  async removeCopy(of: Owner, kept: Kept): Promise<void> {
    await this.#removeTree(this.copyRoot(of, kept));
  }

  async #removeTree(place: string): Promise<void> {
    const { launch } = this.#programs;
    if (existsSync(place)) await runTool({ launch, program: launch, args: ['--remove', place] });
  }

  /** What the session's folder holds goes with it; only what is to be kept apart from the rest is looked at here. */
  async removeAll(of: Owner, except: ReadonlySet<string>): Promise<void> {
    const folder = path.join(of.folder, 'disks');
    if (!existsSync(folder)) return;
    for (const name of readdirSync(folder))
      if (!except.has(name)) await this.#removeTree(path.join(folder, name));
  }

  async limit(): Promise<number | null> {
    return null;
  }
}
