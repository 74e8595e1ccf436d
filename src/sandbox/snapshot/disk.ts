/**
 * What keeps a session's disk (the folders workspace, outputs and home) and copies of it: one driver a way of keeping.
 *
 * Promises of every driver
 * - S3: no program of ours with the host's rights resolves a path that a session wrote. A whole disk is handled by the
 *   kernel (btrfs), or by programs in a namespace of their own that see nothing but the disk (`contained.ts`).
 * - What is not in the session's journal does not exist: every method may find a half-made leftover of the same name, and
 *   removes it first. What a method made is on disk when it settles.
 * - Failures are `DiskRefused`, with what to do; a full disk is `no_space`, and nothing half-made is left.
 */
import type { DiskDriver, Refusal } from '../executor.ts';

/** A disk as the session's journal knows it. */
export type Disk = {
  driver: DiskDriver;
  /** Unique in its session; empty: the folders lie in the session's own folder, as they always did. */
  name: string;
  /** Who owns its files on the disk: another session's uid where it is a fork. Null where the host is not root. */
  owner: number | null;
  limitBytes: number | null;
};

/** A kept copy: by its driver's own means, or as an archive, which every driver can make a disk of. */
export type Kept = { form: 'copy' | 'archive'; name: string; disk: Disk };

/** Whose disk it is: `folder` is the host's, for this session alone. */
export type Owner = { session: string; folder: string };

export type Copied = { sizeBytes: number | null; files: number | null };

export type SessionDisk = {
  /** Where workspace, outputs and home are, in the host's mounts or in `mounts`. */
  root(of: Owner, disk: Disk): string;
  /** An empty disk, or one with what `kept` (of this driver) holds. */
  make(of: Owner, disk: Disk, kept?: { of: Owner; kept: Kept }): Promise<void>;
  /** Before it is used for the first time by this host process. */
  open(of: Owner, disk: Disk): Promise<void>;
  remove(of: Owner, disk: Disk): Promise<void>;
  /** Null where a copy can only be an archive. */
  copy: ((of: Owner, disk: Disk, name: string) => Promise<Copied>) | null;
  /** Where a copy's folders are. */
  copyRoot(of: Owner, kept: Kept): string;
  removeCopy(of: Owner, kept: Kept): Promise<void>;
  /** Everything of the session, but what has these names. */
  removeAll(of: Owner, except: ReadonlySet<string>): Promise<void>;
  /** What a new limit is; answers the one that holds. */
  limit(of: Owner, disk: Disk, limitBytes: number | null): Promise<number | null>;
};

/** Thrown by drivers; `refusal` goes to whoever asked. */
export class DiskRefused extends Error {
  override name = 'DiskRefused';
  readonly refusal: Refusal;

  constructor(refused: Refusal['refused'], message: string) {
    super(message);
    this.refusal = { refused, message };
  }
}

export const diskFolders = ['workspace', 'outputs', 'home'] as const;
