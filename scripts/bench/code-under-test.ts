/** Which code is measured: dist/ as a user runs it, or the sources where nothing is built. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const root = path.resolve(import.meta.dirname, '..', '..');

const builtMain = path.join(root, 'dist', 'src', 'main.js');
const isBuilt = existsSync(builtMain);

/** `src/main` → the file to run or import. */
export function moduleFile(name: string): string {
  return isBuilt ? path.join(root, 'dist', `${name}.js`) : path.join(root, `${name}.ts`);
}

export async function load<T>(name: string): Promise<T> {
  return (await import(pathToFileURL(moduleFile(name)).href)) as T;
}

/** What a user types as `scriptorium`. */
export const commandFile = isBuilt
  ? path.join(root, 'bin', 'scriptorium.mjs')
  : path.join(root, 'src', 'cli', 'main.ts');

export function describeCode(): string {
  if (!isBuilt) return 'sources (dist/ is not built: start and memory are worse than what a user gets)';
  // The compiler writes it at every build, also where nothing changed.
  const builtMs = statSync(path.join(root, 'dist', '.tsbuildinfo')).mtimeMs;
  const newer = readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true }).filter(
    (entry) =>
      entry.name.endsWith('.ts') &&
      !entry.name.endsWith('.test.ts') &&
      statSync(path.join(entry.parentPath, entry.name)).mtimeMs > builtMs,
  );
  return newer.length === 0 ? 'dist/' : `dist/ (${newer.length} sources are newer than it)`;
}
