// What the project stands on: package.json, package-lock.json and docs/design/dependencies.md must agree.

import type { Offence } from './rules.ts';
import type { SourceFile } from './source.ts';
import { isTest } from './source.ts';

export interface PackageFile {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}

/** Packages whose install script we have read. None runs (.npmrc: ignore-scripts), and none may need to. */
const KNOWN_INSTALL_SCRIPTS: readonly string[] = [];
const EXACT = /^\d+\.\d+\.\d+$/;

/** (viii) Exact versions, each run-time one explained. `lines` finds the line of a name in package.json. */
export function pinOffences(text: string, documentation: string): Offence[] {
  const manifest: PackageFile = JSON.parse(text);
  const shipped = { ...manifest.dependencies, ...manifest.optionalDependencies };
  const at = (name: string) => ({ file: 'package.json', line: lineOf(text, `"${name}"`) });
  const loose = Object.entries({ ...shipped, ...manifest.devDependencies })
    .filter(([, version]) => !EXACT.test(version))
    .map(([name, version]) => ({ ...at(name), what: `${name} is not pinned exactly (${version})` }));
  const unexplained = Object.entries(shipped)
    .filter(([name, version]) => !isDocumented(documentation, name, version))
    .map(([name, version]) => ({
      ...at(name),
      what: `${name} ${version} has no row in docs/design/dependencies.md`,
    }));
  const rows = [...documentation.matchAll(/^\| `([^`]+)` \|/gm)];
  const stale = rows
    .filter(([, name]) => name !== undefined && !(name in shipped))
    .map(([row, name]) => ({
      file: 'docs/design/dependencies.md',
      line: lineOf(documentation, row),
      what: `${name} is no run-time dependency any more`,
    }));
  return [...loose, ...unexplained, ...stale];
}

function isDocumented(documentation: string, name: string, version: string): boolean {
  return documentation.split('\n').some((line) => line.startsWith(`| \`${name}\` | ${version} | `));
}

/** (viii) The lockfile installs from whatever registry the machine is set to, and runs nobody's install script. */
export function lockOffences(text: string): Offence[] {
  const lock: {
    packages: Record<string, { hasInstallScript?: boolean; integrity?: string; link?: boolean }>;
  } = JSON.parse(text);
  const hosts = text
    .split('\n')
    .flatMap((line, index) =>
      /"resolved"/.test(line) ? [{ line: index + 1, what: `names a host:${line}` }] : [],
    );
  const scripts = Object.entries(lock.packages)
    .filter(([where, entry]) => entry.hasInstallScript && !KNOWN_INSTALL_SCRIPTS.includes(nameIn(where)))
    .map(([where]) => ({ line: lineOf(text, `"${where}"`), what: `${nameIn(where)} has an install script` }));
  const unchecked = Object.entries(lock.packages)
    .filter(([where, entry]) => where !== '' && !entry.integrity && !entry.link)
    .map(([where]) => ({ line: lineOf(text, `"${where}"`), what: `${nameIn(where)} has no integrity hash` }));
  return [...hosts, ...scripts, ...unchecked].map((one) => ({ file: 'package-lock.json', ...one }));
}

function nameIn(where: string): string {
  return where.slice(where.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

/** (ix) Run-time dependencies and imports of src/ and rehearsal/ are the same set. */
export function usageOffences(text: string, files: readonly SourceFile[]): Offence[] {
  const manifest: PackageFile = JSON.parse(text);
  const dependencies = Object.keys(manifest.dependencies ?? {});
  const shipped = files.filter((file) => /^(src|rehearsal)\//.test(file.path) && !isTest(file.path));
  const used = shipped.flatMap((file) =>
    file.imports
      .filter((one) => /^[a-z@]/.test(one.specifier) && !one.specifier.startsWith('node:'))
      .map((one) => ({ file: file.path, line: one.line, name: packageOf(one.specifier) })),
  );
  const unused = dependencies
    .filter((name) => !used.some((one) => one.name === name && one.file.startsWith('src/')))
    .map((name) => ({
      file: 'package.json',
      line: lineOf(text, `"${name}"`),
      what: `${name} is imported nowhere in src/`,
    }));
  const undeclared = used
    .filter((one) => !dependencies.includes(one.name))
    .map(({ file, line, name }) => ({
      file,
      line,
      what: `imports ${name}, which is no run-time dependency`,
    }));
  return [...unused, ...undeclared];
}

function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function lineOf(text: string, needle: string): number {
  const at = text.indexOf(needle);
  return at === -1 ? 1 : text.slice(0, at).split('\n').length;
}
