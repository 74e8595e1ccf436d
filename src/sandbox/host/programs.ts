/** Where the native programs, bwrap and Node are: beside the package for ours, in the usual folders for bwrap. */
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';

/** Not PATH: what isolates must not depend on who starts the host, and how. */
const systemFolders = ['/usr/bin', '/usr/local/bin', '/bin'];

/** The folder with `native/`, seen from src/… or from dist/src/…. */
function packageFolder(): string {
  let folder = import.meta.dirname;
  while (
    !existsSync(path.join(folder, 'native', 'guest.c')) &&
    !existsSync(path.join(folder, 'native', 'build'))
  ) {
    const parent = path.dirname(folder);
    if (parent === folder) return import.meta.dirname;
    folder = parent;
  }
  return folder;
}

export function findPrograms(): Programs {
  const built = path.join(packageFolder(), 'native', 'build');
  const bwrap = systemFolders.map((folder) => path.join(folder, 'bwrap')).find((file) => existsSync(file));
  return {
    guest: path.join(built, 'guest'),
    launch: path.join(built, 'launch'),
    bwrap: bwrap ?? null,
    node: realpathSync(process.execPath),
  };
}

export const buildRemedy = 'Install a C compiler with a static libc (gcc and libc6-dev), then: npm run build';

/** What was not built: nothing starts without it, not even the lock of a host. */
export function missingPrograms({ guest, launch }: Programs): string | null {
  const missing = [guest, launch].filter((file) => !existsSync(file));
  return missing.length === 0 ? null : missing.map((file) => path.basename(file)).join(', ');
}
