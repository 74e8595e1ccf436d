/**
 * A disk as one stream, for export and for where nothing better can be had: tar (pax), compressed with zstd. Its first
 * member is `manifest.json`, then come `workspace`, `outputs` and `home`.
 *
 * Keeps links, hard links, modes, times to the nanosecond, xattrs of users, holes, and names of any bytes. Owners are not
 * kept: everything is its session's. Sockets are left out. Packing and unpacking happens in a namespace of its own, which
 * sees nothing but the disk (S3).
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';
import { runContained } from './contained.ts';
import { type Copied, diskFolders } from './disk.ts';
import { needTool } from './tool.ts';

export const ARCHIVE_FORMAT = 'scriptorium.checkpoint/1';

type At = { programs: Programs; mounts: string | null; uid: number | null };

const fidelity = "--xattrs --xattrs-include='user.*' --numeric-owner";
const packing = [
  'cd / && find workspace outputs home -mindepth 1 -printf x | wc -c >&2',
  `exec tar --create --file=- --format=posix --sparse ${fidelity} --owner=0 --group=0` +
    ' --pax-option=delete=atime,delete=ctime --warning=no-file-ignored' +
    " --use-compress-program='zstd -1 -T2 -q' -C /about manifest.json -C / workspace outputs home",
].join(' && ');
const unpacking =
  `tar --extract --file=- ${fidelity} --preserve-permissions --no-same-owner --use-compress-program='zstd -q' ` +
  '-C / workspace outputs home && sync -f /workspace';

const disk = (root: string, readOnly: boolean): { from: string; name: string; readOnly: boolean }[] =>
  diskFolders.map((name) => ({ from: path.join(root, name), name, readOnly }));

/** Packs what is in `root` into `file`, which appears whole or not at all. */
export async function pack(at: At, root: string, file: string): Promise<Copied> {
  needTool('zstd', 'zstd');
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  const about = mkdtempSync(`${file}.about-`);
  const fresh = `${file}.new`;
  const stdout = openSync(fresh, 'w', 0o600);
  try {
    const manifest = { format: ARCHIVE_FORMAT, folders: diskFolders };
    writeFileSync(path.join(about, 'manifest.json'), `${JSON.stringify(manifest)}\n`, { mode: 0o644 });
    chmodSync(about, 0o755);
    const folders = [...disk(root, true), { from: about, name: 'about', readOnly: true }];
    const { stderr } = await runContained({ ...at, folders, stdout }, packing);
    fsyncSync(stdout);
    renameSync(fresh, file);
    return { sizeBytes: statSync(file).size, files: Number(stderr.split('\n', 1)[0]?.trim()) || 0 };
  } finally {
    closeSync(stdout);
    rmSync(fresh, { force: true });
    rmSync(about, { recursive: true, force: true });
  }
}

/** Unpacks into the three empty folders of `root`. What was unpacked of a failure is the caller's to remove. */
export async function unpack(at: At, root: string, file: string): Promise<void> {
  needTool('zstd', 'zstd');
  const stdin = openSync(file, 'r');
  try {
    await runContained({ ...at, folders: disk(root, false), stdin }, unpacking);
  } finally {
    closeSync(stdin);
  }
}
