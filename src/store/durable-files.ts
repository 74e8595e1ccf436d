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

/** Makes the directory and what is missing above it; every new name is fsynced into its parent. */
export function makeDurableDirectory(directory: string, mode: number): void {
  const first = mkdirSync(directory, { recursive: true, mode });
  if (first === undefined) return;
  for (let at = path.resolve(directory); at.length >= first.length; at = path.dirname(at)) {
    fsyncDirectory(path.dirname(at));
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
