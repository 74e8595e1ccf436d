/**
 * What a session's journal says of its disk: which it is, what was kept of it, what was restored. It is read back from the
 * records alone; anything on disk that no record names does not exist.
 */
import { createHash } from 'node:crypto';
import type { Checkpoint, CheckpointRef } from '../executor.ts';
import type { Disk, Kept } from './disk.ts';

export type DiskRecord =
  /** From now on this is the session's disk: the step at which a restore has happened. */
  | { type: 'disk'; disk: Disk; restore?: { callId: string; from: CheckpointRef } }
  | { type: 'checkpoint'; about: Checkpoint; kept: Kept }
  | { type: 'checkpoint-removed'; checkpoint: string };

export class DiskLedger {
  /** Null: none was made, or it was made before disks were written down, and lies in the session's folder. */
  disk: Disk | null = null;
  /** Null: it was removed, and its name stays used. */
  readonly checkpoints = new Map<string, { about: Checkpoint; kept: Kept } | null>();
  readonly restored = new Map<string, CheckpointRef>();
  #disks = 0;

  recall(record: DiskRecord): void {
    switch (record.type) {
      case 'disk':
        if (record.disk.name !== this.disk?.name) this.#disks++;
        this.disk = record.disk;
        if (record.restore !== undefined) this.restored.set(record.restore.callId, record.restore.from);
        return;
      case 'checkpoint':
        this.checkpoints.set(record.about.checkpoint, { about: record.about, kept: record.kept });
        return;
      case 'checkpoint-removed':
        this.checkpoints.set(record.checkpoint, null);
        return;
    }
  }

  /** Not the name of the disk that is there; a leftover may have it. */
  nextDiskName(): string {
    return `disk-${this.#disks + 1}`;
  }

  /** Names on disk that records speak of. */
  names(): Set<string> {
    const names = new Set<string>(this.disk === null ? [] : [this.disk.name]);
    for (const entry of this.checkpoints.values()) if (entry !== null) names.add(entry.kept.name);
    return names;
  }
}

/** The engine's name becomes no file name. */
export function copyName(checkpoint: string): string {
  return `copy-${createHash('sha256').update(checkpoint).digest('hex').slice(0, 32)}`;
}
