/**
 * Disks as ext4 images, one for each: where btrfs is not to be had, but loop devices are. Its size bounds it. There is no
 * cheap copy of it: checkpoints are archives.
 *
 * `<session>/disks/<name>.img` is mounted at `<session>/disks/<name>/`, in the host's own mount namespace.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Disk, diskFolders, type Kept, type Owner, type SessionDisk } from './disk.ts';
import type { MountSpace } from './mount-space.ts';
import { needTool } from './tool.ts';

const LEAST_BYTES = 16 << 20;

export class Ext4Disks implements SessionDisk {
  readonly #space: MountSpace;
  readonly #mounted = new Set<string>();
  readonly copy = null;

  constructor(space: MountSpace) {
    this.#space = space;
  }

  #place(of: Owner, disk: Disk): string {
    return path.join(of.folder, 'disks', disk.name);
  }

  root(of: Owner, disk: Disk): string {
    return path.join(this.#place(of, disk), 'disk');
  }

  copyRoot(of: Owner, kept: Kept): string {
    return path.join(of.folder, 'disks', kept.name);
  }

  async make(of: Owner, disk: Disk): Promise<void> {
    const place = this.#place(of, disk);
    await this.remove(of, disk);
    mkdirSync(place, { recursive: true, mode: 0o700 });
    const fresh = `${place}.new`;
    try {
      writeFileSync(fresh, '', { mode: 0o600 });
      truncateSync(fresh, Math.max(LEAST_BYTES, disk.limitBytes ?? LEAST_BYTES));
      // An inode for every 8 KiB: small files are what workspaces are made of.
      const args = ['-q', '-F', '-m', '0', '-i', '8192', '-E', 'lazy_itable_init=1,nodiscard', fresh];
      await this.#space.run(needTool('mkfs.ext4', 'e2fsprogs'), args);
      renameSync(fresh, `${place}.img`);
      await this.open(of, disk);
      const owner = disk.owner === null ? [] : ['-o', String(disk.owner), '-g', String(disk.owner)];
      const root = this.root(of, disk);
      const places = diskFolders.map((name) => path.join(root, name));
      const install = needTool('install', 'coreutils');
      await this.#space.run(install, ['-d', '-m', '755', root]);
      await this.#space.run(install, ['-d', '-m', '700', ...owner, ...places]);
    } catch (error) {
      rmSync(fresh, { force: true });
      await this.remove(of, disk).catch(() => {});
      throw error;
    }
  }

  async open(of: Owner, disk: Disk): Promise<void> {
    const place = this.#place(of, disk);
    if (this.#mounted.has(place)) return;
    await this.#space.mount(`${place}.img`, place, 'ext4', 'noatime,discard');
    this.#mounted.add(place);
  }

  async remove(of: Owner, disk: Disk): Promise<void> {
    const place = this.#place(of, disk);
    if (this.#mounted.delete(place)) await this.#space.run(needTool('umount', 'util-linux'), ['-l', place]);
    for (const end of ['.new', '.img']) rmSync(`${place}${end}`, { force: true });
    // What was mounted here was never in this folder.
    if (existsSync(place)) rmSync(place, { recursive: true });
  }

  async removeCopy(): Promise<void> {}

  async removeAll(of: Owner, except: ReadonlySet<string>): Promise<void> {
    const folder = path.join(of.folder, 'disks');
    if (!existsSync(folder)) return;
    const names = new Set(readdirSync(folder).map((name) => name.replace(/\.(img|new)$/, '')));
    for (const name of names)
      if (!except.has(name)) await this.remove(of, { driver: 'ext4', name, owner: null, limitBytes: null });
  }

  /** Its size is what it was made with. */
  async limit(_of: Owner, disk: Disk): Promise<number | null> {
    return disk.limitBytes;
  }
}
