// Step (c): the small static programs of native/, compiled when their sources change.

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';
import { BootstrapError, findProgram, hashOf, run, stampMatches, writeStamp } from './machine.mjs';
import { hasStaticLibc, installSystem } from './system.mjs';

const PROGRAMS = ['guest', 'launch', 'netprep', 'undumpable'];
const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror'];
/** Node loads this one into itself. */
const ADD_ONS = ['undumpable'];

export function nativeIsFresh(root) {
  const programs = presentPrograms(root);
  return programs.length === 0 || (stampMatches(root, 'native', sourceHash(root)) && built(root, programs));
}

export function buildNative(root, say) {
  if (nativeIsFresh(root)) return;
  const hash = sourceHash(root);
  const programs = presentPrograms(root);
  if (findProgram('cc') !== undefined && !hasStaticLibc()) installSystem(root, say, ['libc']);
  if (findProgram('cc') === undefined) {
    say(
      `no C compiler: ${programs.map((name) => `native/build/${name}`).join(', ')} not built, sandboxes will not start`,
    );
    return;
  }
  say(`compiling native programs: ${programs.join(', ')}`);
  mkdirSync(path.join(root, 'native', 'build'), { recursive: true });
  for (const name of programs) compile(root, name);
  writeStamp(root, 'native', hash);
}

/** Renamed into place, because a running sandbox may hold the old program open. */
function compile(root, name) {
  const target = path.join('native', 'build', name);
  const fresh = `${target}.${process.pid}`;
  const linked = ADD_ONS.includes(name) ? ['-shared', '-fPIC'] : ['-static'];
  const code = run('cc', [...FLAGS, ...linked, '-o', fresh, path.join('native', `${name}.c`)], { cwd: root });
  if (code !== 0)
    throw new BootstrapError(`native/${name}.c does not compile (cc ${FLAGS.join(' ')}), see above`);
  renameSync(path.join(root, fresh), path.join(root, target));
}

function presentPrograms(root) {
  if (process.platform !== 'linux') return [];
  return PROGRAMS.filter((name) => existsSync(path.join(root, 'native', `${name}.c`)));
}

function built(root, programs) {
  return programs.every((name) => existsSync(path.join(root, 'native', 'build', name)));
}

function sourceHash(root) {
  const folder = path.join(root, 'native');
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.[ch]$/.test(name),
  );
  const parts = sources.sort().flatMap((name) => [name, readFileSync(path.join(folder, name))]);
  return hashOf(FLAGS.join(' '), process.arch, ...parts);
}
