#!/usr/bin/env node
// Makes a checkout runnable: npm modules, the few system packages, the native programs, the pinned Node 24, dist/.
//
// Promises:
// - Needs nothing but Node >= 20 and what ships with it; every other script of the project starts here.
// - Idempotent and quiet: what is in order is not touched, and only work that is really done is announced, in one
//   line each, on stderr (stdout belongs to the program that is started afterwards).
// - Safe beside itself: one bootstrap at a time per checkout.
// - Never guesses about the machine: what it cannot install it names, with the command to type.

import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildDist, distIsFresh } from './bootstrap/dist.mjs';
import { gvisorIsFresh, installGvisor } from './bootstrap/gvisor.mjs';
import { withLock } from './bootstrap/lock.mjs';
import { BootstrapError, checkoutFolder } from './bootstrap/machine.mjs';
import { installModules, modulesAreFresh } from './bootstrap/modules.mjs';
import { buildNative, nativeIsFresh } from './bootstrap/native.mjs';
import { locateNode } from './bootstrap/node.mjs';
import { installSystem, missingPrograms, missingTestPrograms } from './bootstrap/system.mjs';

/** What a caller may ask for, in the order in which it is made. `node` is always located. */
const PARTS = ['modules', 'system', 'native', 'dist'];
/** Besides, for tests and measurements only: the programs of a Postgres server. */
export const TEST_PARTS = [...PARTS, 'postgres'];
/** Besides, only when somebody asks for it: the hardened backend's program. */
const ALL_PARTS = [...TEST_PARTS, 'gvisor'];

/**
 * Brings the asked parts of the checkout in order and says where the Node to run it with is.
 * @param {{ quiet?: boolean, need?: string[], root?: string }} [options] `need`: any of modules, system, native, dist, postgres, gvisor
 * @returns {{ node: string, root: string }}
 */
export function bootstrap(options = {}) {
  const root = options.root ?? checkoutFolder;
  const need = options.need ?? PARTS;
  const unknown = need.filter((part) => !ALL_PARTS.includes(part));
  if (unknown.length > 0)
    throw new BootstrapError(`unknown part ${unknown.join(', ')}; known: ${ALL_PARTS.join(', ')}`);
  const say = options.quiet ? () => {} : (line) => process.stderr.write(`bootstrap: ${line}\n`);
  if (!everythingIsFresh(root, need)) withLock(root, say, () => makeParts(root, need, say));
  return { node: locateNode(root), root };
}

function everythingIsFresh(root, need) {
  return (
    modulesAreFresh(root) &&
    (!need.includes('system') || missingPrograms().length === 0) &&
    (!need.includes('postgres') || missingTestPrograms().length === 0) &&
    (!need.includes('native') || nativeIsFresh(root)) &&
    (!need.includes('gvisor') || gvisorIsFresh(root)) &&
    (!need.includes('dist') || distIsFresh(root))
  );
}

function makeParts(root, need, say) {
  // Everything else stands on the modules, so they are made whether asked for or not.
  installModules(root, say);
  if (need.includes('system')) installSystem(root, say);
  if (need.includes('postgres')) installSystem(root, say, missingTestPrograms());
  if (need.includes('native')) buildNative(root, say);
  if (need.includes('gvisor')) installGvisor(root, say);
  if (need.includes('dist')) buildDist(root, locateNode(root), say);
}

/** Runs the body of a script; a BootstrapError becomes one readable line and exit code 1, anything else is a bug. */
export function runScript(body) {
  Promise.resolve()
    .then(body)
    .catch((error) => {
      if (error instanceof BootstrapError) process.stderr.write(`bootstrap: ${error.message}\n`);
      else console.error(error);
      process.exit(1);
    });
}

const isMain =
  process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url);
if (isMain) {
  runScript(() => {
    const need = process.argv.slice(2);
    const { node } = bootstrap(need.length > 0 ? { need } : {});
    console.log(`ready: ${node}`);
  });
}
