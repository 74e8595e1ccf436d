/**
 * What was really installed, as each manager wrote it down in the layer. Written by strangers' programs: read as text,
 * bounded, and believed for nothing but what a later build asks its registries for.
 */
import type { Executor } from '../executor.ts';
import { isRefusal } from '../executor.ts';
import { type Lock, type LockedPackage, layerPath } from './layers.ts';
import { pipReport, type Recipe } from './recipe.ts';

type InSandbox = { session: string; fence: number };
type Locks = Pick<Lock, 'packages' | 'files'>;

const maxLockBytes = 16 << 20;
const maxPackages = 100_000;
const maxChars = 300;

export async function readLocks(executor: Executor, place: InSandbox, recipe: Recipe): Promise<Locks> {
  const { session, fence } = place;
  const read = async (path: string): Promise<string | null> => {
    const found = await executor.readFile({
      session,
      fence,
      path: path.startsWith('/') ? path : `${layerPath}/${path}`,
      maxBytes: maxLockBytes,
    });
    return isRefusal(found) || !found.isWhole ? null : Buffer.from(found.data).toString('utf8');
  };
  const locks: Locks = { packages: [], files: {} };
  if (recipe.packages.npm?.length) {
    const manifest = await read('npm/package.json');
    const lockfile = await read('npm/package-lock.json');
    if (manifest !== null && lockfile !== null) {
      locks.files['npm/package.json'] = manifest;
      locks.files['npm/package-lock.json'] = lockfile;
      locks.packages.push(...npmPackages(lockfile));
    }
  }
  if (recipe.packages.pip?.length) locks.packages.push(...pipPackages(await read(pipReport)));
  if (recipe.packages.cargo?.length) locks.packages.push(...cargoPackages(await read('cargo/.crates2.json')));
  if (recipe.packages.gem?.length) locks.packages.push(...(await gemPackages(executor, place)));
  locks.packages = locks.packages.slice(0, maxPackages);
  return locks;
}

export function npmPackages(lockfile: string): LockedPackage[] {
  const { packages } = parsed(lockfile) as {
    packages?: Record<string, { version?: string; integrity?: string }>;
  };
  return Object.entries(packages ?? {}).flatMap(([place, one]) =>
    place === ''
      ? []
      : locked(
          'npm',
          place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length),
          one?.version,
          one?.integrity,
        ),
  );
}

export function pipPackages(report: string | null): LockedPackage[] {
  type Item = {
    metadata?: { name?: string; version?: string };
    download_info?: { archive_info?: { hash?: string; hashes?: { sha256?: string } } };
  };
  const { install } = parsed(report) as { install?: Item[] };
  if (!Array.isArray(install)) return [];
  return install.flatMap(({ metadata, download_info }) => {
    const { hash, hashes } = download_info?.archive_info ?? {};
    // Older ones say it in one word; both only where the index does.
    const sha256 = hashes?.sha256 ?? /^sha256=([0-9a-f]{64})$/.exec(String(hash))?.[1];
    return locked(
      'pip',
      metadata?.name,
      metadata?.version,
      sha256 === undefined ? undefined : `sha256:${sha256}`,
    );
  });
}

export function cargoPackages(crates: string | null): LockedPackage[] {
  const { installs } = parsed(crates) as { installs?: Record<string, unknown> };
  return Object.keys(installs ?? {}).flatMap((key) => {
    const [name, version] = key.split(' ');
    return locked('cargo', name, version, undefined);
  });
}

async function gemPackages(executor: Executor, { session, fence }: InSandbox): Promise<LockedPackage[]> {
  const path = `${layerPath}/gem/specifications`;
  const found = await executor.walk({
    session,
    fence,
    path,
    skipDirectories: [],
    maxEntries: 10_000,
    maxDepth: 1,
  });
  if (isRefusal(found)) return [];
  return found.entries.flatMap((entry) => {
    const [, name, version] = /\/([^/]+)-([0-9][^-/]*)\.gemspec$/.exec(entry.path) ?? [];
    return locked('gem', name, version, undefined);
  });
}

/** An object, or nothing in it. */
function parsed(text: string | null): object {
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

function locked(
  manager: LockedPackage['manager'],
  name: unknown,
  version: unknown,
  hash: unknown,
): LockedPackage[] {
  const isText = (value: unknown): value is string => typeof value === 'string' && value.length <= maxChars;
  if (!isText(name) || !isText(version)) return [];
  return [{ manager, name, version, hash: isText(hash) ? hash : null }];
}
