// The house rules as functions from sources to offences. No rule reads a disk or knows of exceptions; the real tree
// is checked in ../architecture.test.ts, planted violations in rules.test.ts.

import path from 'node:path';
import type { Import, SourceFile } from './source.ts';
import { isTest, lineAt } from './source.ts';

export interface Offence {
  file: string;
  line: number;
  what: string;
}

/** docs: the order of the house. A folder imports only from folders before it. */
export const LAYERS: readonly string[] = [
  'protocol',
  'session',
  'store',
  'model',
  'link',
  'gateway',
  'sandbox',
  'guard',
  'tools',
  'delivery',
  'engine',
  'api',
  'roles',
  'cli',
  'main.ts',
];

export const MAX_FILE_LINES = 400;
const COMMENT_FROM_LINES = 80;
/** Commands that start a process of ours; all others talk to one over its API. */
const STARTERS = ['up', 'serve', 'host', 'host-token', 'gateway'].map((name) => `src/cli/${name}.ts`);
const FORBIDDEN_NAMES = /^(utils?|helpers?|common|shared|types|managers?|services?|misc)$/i;
const OUTSIDE_SRC = ['rehearsal', 'chaos', 'attack', 'test', 'scripts', 'bench', 'console'];
/** A test beside the code talks to a misbehaving peer, not to a mock; it is no part of dist/. */
const PEERS_OF_TESTS = ['rehearsal', 'test'];

/** (i) Who may import whom inside src/. */
export function layerOffences(files: readonly SourceFile[]): Offence[] {
  return files
    .filter((file) => file.path.startsWith('src/'))
    .flatMap((file) => [
      ...placeOffences(file),
      ...file.imports.flatMap((one) => {
        const what = layerOffence(file.path, one);
        return what === undefined ? [] : [{ file: file.path, line: one.line, what }];
      }),
    ]);
}

function placeOffences(file: SourceFile): Offence[] {
  if (LAYERS.includes(layerOf(file.path))) return [];
  return [{ file: file.path, line: 1, what: `is in no folder of the house (${LAYERS.join(', ')})` }];
}

function layerOffence(from: string, one: Import): string | undefined {
  if (one.target === undefined) return undefined;
  const folder = one.target.split('/')[0] ?? '';
  if (isTest(from) && PEERS_OF_TESTS.includes(folder)) return undefined;
  if (OUTSIDE_SRC.includes(folder)) return `imports ${one.target}: src/ never imports ${folder}/`;
  if (folder !== 'src') return undefined;
  const source = layerOf(from);
  const target = layerOf(one.target);
  if (target === source) return undefined;
  if (target === 'main.ts') {
    const allowed = STARTERS.includes(from) && one.kind === 'dynamic';
    return allowed
      ? undefined
      : `imports main.ts: only ${STARTERS.join(', ')} may, and only by dynamic import`;
  }
  if (source === 'cli') {
    return target === 'protocol'
      ? undefined
      : `imports ${one.target}: cli/ talks to a server only over its API`;
  }
  if (LAYERS.indexOf(target) < LAYERS.indexOf(source)) return undefined;
  return `imports ${one.target}: ${source} comes before ${target}; declare the function you need and let main.ts hand it in`;
}

function layerOf(file: string): string {
  return file.split('/')[1] ?? '';
}

/** (ii) Groups of files that need each other at run time. One offence per group, with one way around it. */
export function cycleOffences(files: readonly SourceFile[]): Offence[] {
  const runtimeImports = new Map(
    files.map((file) => [
      file.path,
      file.imports.filter((one) => one.kind !== 'type' && one.target !== undefined),
    ]),
  );
  const done = new Set<string>();
  const offences: Offence[] = [];
  const visit = (file: string, trail: string[]) => {
    const seenAt = trail.indexOf(file);
    if (seenAt !== -1) {
      const around = [...trail.slice(seenAt), file];
      const line = runtimeImports.get(file)?.find((one) => one.target === around[1])?.line ?? 1;
      offences.push({ file, line, what: `is in an import cycle: ${around.join(' -> ')}` });
      return;
    }
    if (done.has(file)) return;
    for (const one of runtimeImports.get(file) ?? []) visit(one.target as string, [...trail, file]);
    done.add(file);
  };
  for (const file of files) visit(file.path, []);
  return offences;
}

/** (iii) Size of files; the size of functions is measured by biome, see functions.ts. */
export function fileSizeOffences(files: readonly SourceFile[]): Offence[] {
  return files
    .filter((file) => !isTest(file.path) && lineCount(file) > MAX_FILE_LINES)
    .map((file) => ({ file: file.path, line: MAX_FILE_LINES + 1, what: `has ${lineCount(file)} lines` }));
}

const ANY_BEFORE = /([:<,|&([=>]|\b(as|extends|satisfies|keyof))\s*$/;
const ANY_AFTER_IS_A_NAME = /^\s*(\(|:|\?\s*:|=[^>=])/;
const SUPPRESSION = /@ts-(ignore|nocheck)\b|biome-ignore|eslint-disable/;

/** (iv) No `any` and no comment that switches a check off. */
export function escapeHatchOffences(files: readonly SourceFile[]): Offence[] {
  return files.flatMap((file) => [...anyOffences(file), ...suppressionOffences(file)]);
}

function anyOffences(file: SourceFile): Offence[] {
  const offences: Offence[] = [];
  for (const match of file.code.matchAll(/\bany\b/g)) {
    const before = file.code.slice(Math.max(0, match.index - 40), match.index);
    const after = file.code.slice(match.index + 3, match.index + 43);
    const isType = ANY_BEFORE.test(before) && !ANY_AFTER_IS_A_NAME.test(after);
    const isSchema = /\bz\s*\.\s*$/.test(before);
    if (isType || isSchema)
      offences.push({ file: file.path, line: lineAt(file.text, match.index), what: 'uses any' });
  }
  return offences;
}

function suppressionOffences(file: SourceFile): Offence[] {
  return file.comments.flatMap((comment) => {
    const found = SUPPRESSION.exec(comment.text);
    if (found === null) return [];
    const line = comment.line + lineAt(comment.text, found.index) - 1;
    return [{ file: file.path, line, what: `suppresses a check with ${found[0]}` }];
  });
}

/** (v) Names that say nothing. Takes every file, not only sources. */
export function nameOffences(paths: readonly string[]): Offence[] {
  return paths.flatMap((file) =>
    file
      .split('/')
      .filter((part) => FORBIDDEN_NAMES.test(part.replace(/\..*$/, '')))
      .map((part) => ({ file, line: 1, what: `"${part}" says nothing about what is inside` })),
  );
}

/** (vi) A longer file opens with a comment that says what its job is. */
export function openingCommentOffences(files: readonly SourceFile[]): Offence[] {
  return files
    .filter((file) => !isTest(file.path) && lineCount(file) > COMMENT_FROM_LINES && !opensWithItsJob(file))
    .map((file) => ({
      file: file.path,
      line: 1,
      what: `has ${lineCount(file)} lines and no opening comment`,
    }));
}

function opensWithItsJob(file: SourceFile): boolean {
  const text = file.text.replace(/^#!.*\n/, '').trimStart();
  const comment = /^(\/\/.*|\/\*[\s\S]*?\*\/)/.exec(text)?.[0] ?? '';
  const words = comment.replace(/[/*]/g, ' ').trim();
  return words.length >= 20 && !/SPDX|copyright|licen[cs]e/i.test(words);
}

/** (vii) The folders directly under `parent`, except those `beside`, are siblings with the same file names. */
export function siblingOffences(
  paths: readonly string[],
  parent: string,
  beside: readonly string[] = [],
): Offence[] {
  const folders = new Map<string, Set<string>>();
  for (const file of paths) {
    const [folder, name, ...deeper] = file.startsWith(`${parent}/`)
      ? file.slice(parent.length + 1).split('/')
      : [];
    if (folder === undefined || name === undefined || deeper.length > 0 || isTest(name)) continue;
    if (beside.includes(folder)) continue;
    folders.set(folder, (folders.get(folder) ?? new Set()).add(name));
  }
  const all = new Set([...folders.values()].flatMap((names) => [...names]));
  return [...folders].flatMap(([folder, names]) =>
    [...all]
      .filter((name) => !names.has(name))
      .map((name) => {
        const owners = [...folders].filter(([, theirs]) => theirs.has(name)).map(([owner]) => owner);
        const file = `${parent}/${folder}/${name}`;
        return {
          file,
          line: 1,
          what: `does not exist, while ${owners.join(', ')} has ${path.posix.basename(name)}`,
        };
      }),
  );
}

const IMPURE = [
  { pattern: /\bDate\s*\.\s*now\b|\bnew\s+Date\s*\(\s*\)|\bperformance\b/g, what: 'reads the clock' },
  {
    pattern: /\bMath\s*\.\s*random\b|\brandom(UUID|Bytes|Int|FillSync)\b|\bgetRandomValues\b/g,
    what: 'draws randomness',
  },
  {
    pattern: /\b(setTimeout|setInterval|setImmediate|queueMicrotask|fetch)\s*\(|\bprocess\s*\./g,
    what: 'performs I/O',
  },
];
const PURE_MODULES = new Set([
  'node:assert',
  'node:assert/strict',
  'node:crypto',
  'node:buffer',
  'node:util',
]);

/** session/ is pure (promise L7): no I/O, no clock, no randomness. */
export function purityOffences(files: readonly SourceFile[]): Offence[] {
  return files
    .filter((file) => file.path.startsWith('src/session/') && !isTest(file.path))
    .flatMap((file) => [
      ...file.imports
        .filter(
          (one) =>
            one.kind !== 'type' && one.specifier.startsWith('node:') && !PURE_MODULES.has(one.specifier),
        )
        .map((one) => ({ file: file.path, line: one.line, what: `imports ${one.specifier}` })),
      ...IMPURE.flatMap(({ pattern, what }) =>
        [...file.code.matchAll(pattern)].map((match) => ({
          file: file.path,
          line: lineAt(file.text, match.index),
          what: `${what} (${match[0].trim()})`,
        })),
      ),
    ]);
}

function lineCount(file: SourceFile): number {
  return file.text.replace(/\n$/, '').split('\n').length;
}
