/**
 * Disks as subvolumes of one btrfs, in one sparse image for the whole state folder: a copy takes some milliseconds, however
 * much there is, and a quota group bounds each disk.
 *
 * `volume.img` is mounted at `volume/`, in the host's own mount namespace; `volume/<session>/<name>` is a subvolume.
 * Only the kernel walks what a session wrote (S3). The host's journals are outside: a full volume does not stop them.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import {
  type Copied,
  type Disk,
  DiskRefused,
  diskFolders,
  type Kept,
  type Owner,
  type SessionDisk,
} from './disk.ts';
import type { MountSpace } from './mount-space.ts';
import { needTool } from './tool.ts';

const LEAST_BYTES = 1 << 30;
/** Of what is free on the host's file system: the image grows into it, and others must be able to live. */
const SHARE = 0.9;
/** A file system of this size needs so much more before it is worth to be grown. */
const GROW_FROM = 1.1;

/** $0 is btrfs, $1 what is made or removed. No name here is a session's. */
const dropping = 'test ! -d "$1" || "$0" subvolume delete "$1" >/dev/null';
const copying = `${dropping}; exec "$0" subvolume snapshot -r "$2" "$1"`;
/** $2: a copy, or nothing; $3: the limit; $4: the owner, or nobody. */
const making = `${dropping}; mkdir -p -m 700 "$(dirname "$1")"
if test -n "$2"; then "$0" subvolume snapshot "$2" "$1"
else "$0" subvolume create "$1"; install -d -m 700 \${4:+-o "$4" -g "$4"} ${diskFolders.map((name) => `"$1/${name}"`).join(' ')}; fi
"$0" qgroup limit "$3" "$1"`;

/** `space`: where it is mounted. Made when the first disk is. */
export class BtrfsDisks implements SessionDisk {
  readonly #stateDir: string;
  readonly #space: MountSpace;
  #mounted: Promise<void> | null = null;

  constructor(stateDir: string, space: MountSpace) {
    this.#stateDir = stateDir;
    this.#space = space;
  }

  get #volume(): string {
    return path.join(this.#stateDir, 'volume');
  }

  root(of: Owner, disk: Disk): string {
    return path.join(this.#volume, of.session, disk.name);
  }

  copyRoot(of: Owner, kept: Kept): string {
    return path.join(this.#volume, of.session, kept.name);
  }

  /** Mounts the volume, and makes it first where there is none. A failure is tried again next time. */
  mounted(): Promise<void> {
    this.#mounted ??= this.#mount().catch((error: unknown) => {
      this.#mounted = null;
      throw error;
    });
    return this.#mounted;
  }

  async #mount(): Promise<void> {
    const image = path.join(this.#stateDir, 'volume.img');
    needTool('btrfs', 'btrfs-progs');
    mkdirSync(this.#volume, { recursive: true, mode: 0o700 });
    const { bavail, bsize } = statfsSync(this.#stateDir);
    const isNew = !existsSync(image);
    const takenBytes = isNew ? 0 : statSync(image).blocks * 512;
    const roomBytes = Math.floor((takenBytes + bavail * bsize * SHARE) / LEAST_BYTES) * LEAST_BYTES;
    if (isNew) await this.#format(image, roomBytes);
    const mayGrow = roomBytes > statSync(image).size * GROW_FROM;
    if (mayGrow) truncateSync(image, roomBytes);
    await this.#space.mount(image, this.#volume, 'btrfs', 'noatime,discard=async');
    if (mayGrow) await this.#btrfs('filesystem', 'resize', 'max', this.#volume);
    await this.#btrfs('quota', 'enable', this.#volume);
    await this.#removeForgotten();
  }

  async #format(image: string, sizeBytes: number): Promise<void> {
    if (sizeBytes < LEAST_BYTES)
      throw new DiskRefused('no_space', 'less than a gigabyte is free for the volume of the disks');
    const mkfs = needTool('mkfs.btrfs', 'btrfs-progs');
    // Under its own name only when it is whole: a crash in between leaves no volume, not a broken one.
    const fresh = `${image}.new`;
    writeFileSync(fresh, '', { mode: 0o600 });
    truncateSync(fresh, sizeBytes);
    await this.#space.run(mkfs, ['-q', '-f', '-K', '-m', 'single', fresh]);
    await this.#space.run(needTool('mv', 'coreutils'), [fresh, image]);
  }

  /** Of sessions that are no more: the host died between the end of their journal and that of their disk. */
  async #removeForgotten(): Promise<void> {
    const { stdout } = await this.#space.run(needTool('ls', 'coreutils'), ['-1', this.#volume]);
    const sessions = path.join(this.#stateDir, 'sessions');
    const known = new Set(existsSync(sessions) ? readdirSync(sessions) : []);
    for (const session of stdout.split('\n'))
      if (session !== '' && !known.has(session)) await this.#removeBelow(session, new Set());
  }

  #btrfs(...args: string[]): Promise<{ stdout: string }> {
    return this.#space.run(needTool('btrfs', 'btrfs-progs'), args);
  }

  async make(of: Owner, disk: Disk, kept?: { of: Owner; kept: Kept }): Promise<void> {
    await this.mounted();
    const root = this.root(of, disk);
    const limit = disk.limitBytes === null ? 'none' : String(disk.limitBytes);
    const from = kept === undefined ? '' : this.copyRoot(kept.of, kept.kept);
    await this.#cleanOnFailure(root, () =>
      this.#script(making, root, from, limit, disk.owner === null ? '' : String(disk.owner)),
    );
  }

  async open(): Promise<void> {
    await this.mounted();
  }

  async limit(of: Owner, disk: Disk, limitBytes: number | null): Promise<number | null> {
    await this.#btrfs(
      'qgroup',
      'limit',
      limitBytes === null ? 'none' : String(limitBytes),
      this.root(of, disk),
    );
    return limitBytes;
  }

  /** The kernel writes out what is dirty and commits before it answers: the copy is on disk, and of one moment. */
  copy = async (of: Owner, disk: Disk, name: string): Promise<Copied> => {
    const place = path.join(this.#volume, of.session, name);
    await this.#cleanOnFailure(place, () => this.#script(copying, place, this.root(of, disk)));
    return { sizeBytes: null, files: null };
  };

  async #cleanOnFailure(place: string, act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      await this.#drop(place).catch(() => {});
      throw error;
    }
  }

  async removeCopy(of: Owner, kept: Kept): Promise<void> {
    await this.mounted();
    await this.#drop(this.copyRoot(of, kept));
  }

  async remove(of: Owner, disk: Disk): Promise<void> {
    await this.mounted();
    await this.#drop(this.root(of, disk));
  }

  async removeAll(of: Owner, except: ReadonlySet<string>): Promise<void> {
    if (!existsSync(path.join(this.#stateDir, 'volume.img'))) return;
    await this.mounted();
    await this.#removeBelow(of.session, except);
  }

  async #removeBelow(session: string, except: ReadonlySet<string>): Promise<void> {
    const folder = path.join(this.#volume, session);
    const { stdout } = await this.#space.run('/bin/sh', [
      ...['-c', 'test ! -d "$1" || ls -1 "$1"', 'sh', folder],
    ]);
    for (const name of stdout.split('\n'))
      if (name !== '' && !except.has(name)) await this.#drop(path.join(folder, name));
    if (except.size > 0) return;
    await this.#space.run('/bin/sh', ['-c', 'test ! -d "$1" || rmdir "$1"', 'sh', folder]);
  }

  /** A name that is not there is fine. */
  async #drop(place: string): Promise<void> {
    await this.#script(dropping, place);
  }

  /** One process of ours for each step would cost more than the steps. */
  #script(script: string, ...args: string[]): Promise<{ stdout: string }> {
    return this.#space.run('/bin/sh', ['-ec', script, needTool('btrfs', 'btrfs-progs'), ...args]);
  }
}
