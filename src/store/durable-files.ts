/**
 * Files that are there after a power cut: fsync the bytes, then the name. Synchronous, because it runs at boot and in
 * workers.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export function fsyncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes the directory and what is missing above it, and syncs every name on the way down to it: whoever made it before us
 * may not have. What is not ours and cannot be synced (no right to read it, a read-only file system) is passed over.
 */
export function makeDurableDirectory(directory: string, mode: number): void {
  const first = mkdirSync(directory, { recursive: true, mode });
  for (let at = path.resolve(directory); path.dirname(at) !== at; at = path.dirname(at)) {
    const isNew = first !== undefined && at.length >= first.length;
    try {
      fsyncDirectory(path.dirname(at));
    } catch (error) {
      if (isNew) throw error;
    }
  }
}

/** Writes a new file under a temporary name and moves it into place. */
export function writeDurableFile(file: string, bytes: Uint8Array, mode: number): void {
  const temporary = `${file}.new`;
  const fd = openSync(temporary, 'w', mode);
  try {
    writeFileSync(fd, bytes);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
  fsyncDirectory(path.dirname(file));
}
