// Step (a): node_modules as package-lock.json says. `npm ci` runs only when they differ.

import path from 'node:path';
import {
  BootstrapError,
  environmentOutsideModules,
  hashOf,
  readOrUndefined,
  run,
  stampMatches,
  writeStamp,
} from './machine.mjs';

export function modulesAreFresh(root) {
  return stampMatches(root, 'modules', wantedHash(root));
}

export function installModules(root, say) {
  if (modulesAreFresh(root)) return;
  if (!installedAsLocked(root)) npmCi(root, say);
  writeStamp(root, 'modules', wantedHash(root));
}

function npmCi(root, say) {
  say('installing npm modules (npm ci)');
  // Dev modules carry the compiler and the test runner, optional ones the pinned Node: NODE_ENV must not drop them.
  const args = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  const code = run('npm', args, { cwd: root, env: environmentOutsideModules() });
  if (code === 127) throw new BootstrapError('npm is not on PATH; install Node.js with npm');
  if (code !== 0) throw new BootstrapError(`npm ci failed with exit code ${code}; its message is above`);
}

function wantedHash(root) {
  const lock = readOrUndefined(path.join(root, 'package-lock.json'));
  if (lock === undefined)
    throw new BootstrapError('package-lock.json is missing; check out the repository again');
  return hashOf(lock, process.platform, process.arch);
}

/**
 * Whether npm's own record of what it installed agrees with the lockfile, so that somebody's `npm install`
 * of a new package is not followed by a useless reinstall of everything.
 */
function installedAsLocked(root) {
  const record = readOrUndefined(path.join(root, 'node_modules', '.package-lock.json'));
  if (record === undefined) return false;
  const installed = JSON.parse(record).packages;
  const locked = JSON.parse(readOrUndefined(path.join(root, 'package-lock.json'))).packages;
  const wanted = Object.entries(locked).filter(([where]) => where !== '');
  const complete = wanted.every(
    ([where, entry]) => entry.optional || entry.devOptional || entry.peer || where in installed,
  );
  const exact = Object.entries(installed).every(
    ([where, entry]) =>
      locked[where]?.version === entry.version && locked[where]?.integrity === entry.integrity,
  );
  return complete && exact && 'node_modules/typescript' in installed;
}
