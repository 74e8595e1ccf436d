/** Temporary folders that are gone when the command is, however it ends (but for SIGKILL). */
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

export type TemporaryFolder = { path: string; remove(): Promise<void> };

const folders = new Set<string>();

function removeAll(): void {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}

export async function temporaryFolder(purpose: string): Promise<TemporaryFolder> {
  if (folders.size === 0 && !process.listeners('exit').includes(removeAll)) process.on('exit', removeAll);
  const folder = await mkdtemp(path.join(tmpdir(), `scriptorium-${purpose}-`));
  folders.add(folder);
  const remove = async (): Promise<void> => {
    await rm(folder, { recursive: true, force: true });
    folders.delete(folder);
  };
  return { path: folder, remove };
}
