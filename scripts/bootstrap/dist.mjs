// Step (e): dist/, what tsc makes of src/ and rehearsal/. Built when a source is newer than the last build.
// A build with type errors changes nothing in dist/ and fails.

import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { BootstrapError, hashOf, readOrUndefined, run, stampMatches, writeStamp } from './machine.mjs';

const SOURCE_FOLDERS = ['src', 'rehearsal', 'chaos', 'attack'];
const CONFIGS = ['tsconfig.base.json', 'tsconfig.build.json', 'package-lock.json'];

export function distIsFresh(root) {
  return existsSync(path.join(root, 'dist')) && stampMatches(root, 'dist', listingHash(root));
}

export function buildDist(root, node, say) {
  if (distIsFresh(root)) return;
  // Taken before the compiler reads the files: an edit during the build makes the next start build again.
  const hash = listingHash(root);
  if (!sources(root).some(isProgram)) return;
  say('building dist/ (tsc)');
  const tsc = path.join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const code = run(node, [tsc, '-p', 'tsconfig.build.json'], { cwd: root });
  if (code !== 0)
    throw new BootstrapError(
      'src/ or rehearsal/ does not type-check, dist/ was left as it was; errors above',
    );
  copyAssets(root);
  removeLeftovers(root);
  writeStamp(root, 'dist', hash);
}

/** Every file of the source folders, relative to the root, sorted. */
function sources(root) {
  return SOURCE_FOLDERS.flatMap((folder) => filesUnder(root, folder)).sort();
}

function filesUnder(root, folder) {
  if (!existsSync(path.join(root, folder))) return [];
  return readdirSync(path.join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath ?? entry.path, entry.name)));
}

function isTest(file) {
  return file.endsWith('.test.ts');
}

function isProgram(file) {
  return file.endsWith('.ts') && !isTest(file);
}

function listingHash(root) {
  const lines = sources(root)
    .filter((file) => !isTest(file))
    .map((file) => {
      const stat = statSync(path.join(root, file), { throwIfNoEntry: false });
      return `${file} ${stat?.size} ${stat?.mtimeMs}`;
    });
  const configs = CONFIGS.map((name) => readOrUndefined(path.join(root, name)) ?? '');
  return hashOf(...lines, ...configs);
}

/** What a program reads beside itself (SQL, prompts, pages) is copied as it is. */
function copyAssets(root) {
  for (const file of sources(root).filter((name) => !name.endsWith('.ts'))) {
    const target = path.join(root, 'dist', file);
    mkdirSync(path.dirname(target), { recursive: true });
    copyFileSync(path.join(root, file), target);
  }
}

/** A module whose source is gone must not stay importable. */
function removeLeftovers(root) {
  for (const folder of SOURCE_FOLDERS) {
    for (const file of filesUnder(root, path.join('dist', folder))) {
      const source = path.relative('dist', file);
      const program = source.replace(/\.js$/, '.ts');
      if (!existsSync(path.join(root, source)) && !existsSync(path.join(root, program)))
        rmSync(path.join(root, file));
    }
  }
}
