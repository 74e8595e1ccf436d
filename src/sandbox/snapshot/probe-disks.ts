/** What this machine can keep disks of sessions on, for `scriptorium doctor`: a disk with a size is really made. */
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';
import { type Disk, DiskRefused } from './disk.ts';
import { Disks } from './disks.ts';
import { findTool } from './tool.ts';

const LIMIT_BYTES = 64 << 20;

export type DisksFound = { found: string; remedy: string | null };

/** `folder`: where the state folder is, or would be. */
export async function probeDisks(programs: Programs, folder: string): Promise<DisksFound> {
  const stateDir = mkdtempSync(path.join(folder, '.scriptorium-probe-'));
  const disks = new Disks(programs, stateDir, 'auto');
  try {
    const driver = await disks.choose(LIMIT_BYTES, true);
    const disk: Disk = { driver, name: 'disk-1', owner: null, limitBytes: LIMIT_BYTES };
    const of = { session: 'probe', folder: path.join(stateDir, 'sessions', 'probe') };
    const keeper = await disks.of(driver);
    await keeper.make(of, disk);
    await keeper.remove(of, disk);
    const isBound = driver === 'btrfs' || driver === 'ext4';
    const copies = driver === 'btrfs' ? 'checkpoints in milliseconds' : 'checkpoints copy what there is';
    return {
      found: `${driver}: ${isBound ? 'disks have a size' : 'disks have no size'}, ${copies}`,
      remedy: driver === 'btrfs' ? null : remedy(),
    };
  } catch (error) {
    if (!(error instanceof DiskRefused)) throw error;
    return { found: error.message, remedy: remedy() };
  } finally {
    disks.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

function remedy(): string {
  if (process.getuid?.() !== 0) return 'Run the host as root for disks with a size and cheap checkpoints.';
  const lacks = [
    ...(findTool('mkfs.btrfs') === null ? ['btrfs-progs'] : []),
    ...(findTool('mkfs.ext4') === null ? ['e2fsprogs'] : []),
    ...(findTool('zstd') === null ? ['zstd'] : []),
  ];
  if (lacks.length > 0) return `Install ${lacks.join(', ')}.`;
  return 'Loop devices and btrfs are needed for disks with a size and cheap checkpoints: see that a container allows them.';
}
