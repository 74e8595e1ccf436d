/** Where the native programs, bwrap and Node are: beside the package for ours, in the usual folders for bwrap. */
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';
import type { Programs } from '../backend.ts';

/** Not PATH: what isolates must not depend on who starts the host, and how. */
const systemFolders = ['/usr/bin', '/usr/local/bin', '/bin', '/usr/sbin', '/usr/local/sbin', '/sbin'];

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
  const system = (name: string): string | null =>
    systemFolders.map((folder) => path.join(folder, name)).find((file) => existsSync(file)) ?? null;
  return {
    guest: path.join(built, 'guest'),
    launch: path.join(built, 'launch'),
    netprep: path.join(built, 'netprep'),
    undumpable: path.join(built, 'undumpable'),
    bwrap: system('bwrap'),
    nft: system('nft'),
    runsc: ownRunsc(built) ?? system('runsc'),
    node: realpathSync(process.execPath),
  };
}

/** The pinned one, where it was asked for (scripts/bootstrap/gvisor.mjs). */
function ownRunsc(built: string): string | null {
  const file = path.join(built, 'runsc');
  return existsSync(file) ? file : null;
}

export const buildRemedy = 'Install a C compiler with a static libc (gcc and libc6-dev), then: npm run build';

/** What was not built: nothing starts without it, not even the lock of a host. */
export function missingPrograms({ guest, launch, netprep }: Programs): string | null {
  const missing = [guest, launch, netprep].filter((file) => !existsSync(file));
  return missing.length === 0 ? null : missing.map((file) => path.basename(file)).join(', ');
}
