// The house rules, held on the real tree. The rules themselves are in architecture/, with tests that they can fail.
// There is no list of exceptions here, on purpose: a rule that hurts is changed for everybody or not at all.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { functionSizeOffences } from './architecture/functions.ts';
import { lockOffences, pinOffences, usageOffences } from './architecture/packages.ts';
import type { Offence } from './architecture/rules.ts';
import {
  cycleOffences,
  escapeHatchOffences,
  fileSizeOffences,
  layerOffences,
  nameOffences,
  openingCommentOffences,
  purityOffences,
  siblingOffences,
} from './architecture/rules.ts';
import { listFiles, readSources } from './architecture/source.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const everything = [
  'src',
  'rehearsal',
  'chaos',
  'attack',
  'scripts',
  'bin',
  'test',
  'bench',
  'console',
  'native',
  'docs',
];
const programs = readSources(ROOT, ['src', 'rehearsal', 'chaos', 'attack', 'scripts']);
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');

function expectNone(offences: readonly Offence[], advice: string): void {
  const lines = offences.map(({ file, line, what }) => `  ${file}:${line} ${what}`);
  if (lines.length > 0) expect.fail(`${lines.length} offences. ${advice}\n${lines.join('\n')}`);
}

it('there are sources to judge', () => {
  expect(programs.filter((file) => file.path.startsWith('src/')).length).toBeGreaterThan(0);
});

it('a folder of src imports only from folders above it in the house', () => {
  expectNone(
    layerOffences(programs),
    'Declare the function you need where you need it, and hand it in from main.ts.',
  );
});

it('no two files need each other at run time', () => {
  expectNone(cycleOffences(programs), 'Move what both need into a third file, or import the type only.');
});

it('files are at most 400 lines long', () => {
  expectNone(fileSizeOffences(programs), 'Split the file by what its parts do.');
});

it('functions are at most 60 lines long', () => {
  const offences = functionSizeOffences(ROOT, ['src', 'rehearsal', 'chaos', 'attack', 'scripts']);
  expectNone(offences, 'Give the steps inside names of their own.');
});

it('nothing is any, and no comment switches a check off', () => {
  const advice = 'Use unknown and narrow it, or a type; mend what the check found.';
  expectNone(escapeHatchOffences(programs), advice);
});

it('names say what is inside', () => {
  const paths = everything.flatMap((folder) => listFiles(ROOT, folder));
  expectNone(nameOffences(paths), "Name it by what it holds, in the field's own words.");
});

it('a file of more than 80 lines opens with its job', () => {
  expectNone(openingCommentOffences(programs), 'Open with a comment: its job, and the promises it keeps.');
});

it.each([
  // The conformance suite is the one question asked of every engine.
  { parent: 'src/store', beside: ['conformance'] },
  { parent: 'src/model', beside: [] },
])('the folders in $parent have the same files', ({ parent, beside }) => {
  const advice =
    'Siblings answer the same questions in files of the same names; what is common lies beside them.';
  expectNone(siblingOffences(listFiles(ROOT, parent), parent, beside), advice);
});

it('session is pure: no I/O, no clock, no randomness (L7)', () => {
  expectNone(purityOffences(programs), 'Time and ids enter as events; effects are performed by the engine.');
});

it('dependencies are pinned exactly and each has its reason written down', () => {
  const offences = pinOffences(read('package.json'), read('docs/design/dependencies.md'));
  expectNone(
    offences,
    'Pin it, and add its row to docs/design/dependencies.md: | `name` | version | reason |.',
  );
});

it('the lockfile names no host and nothing needs an install script', () => {
  const advice = 'Install again with the .npmrc of this folder; choose a package without install scripts.';
  expectNone(lockOffences(read('package-lock.json')), advice);
});

it('src imports every run-time dependency, and nothing else', () => {
  expectNone(
    usageOffences(read('package.json'), programs),
    'Remove it from package.json, or declare it there.',
  );
});
