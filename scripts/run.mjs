#!/usr/bin/env node
// Runs one of the project's own programs under the pinned Node: `node scripts/run.mjs demo --help`.
// Bootstraps exactly what that program needs first; arguments, signals and the exit code pass through.

import path from 'node:path';
import { runToEnd } from './bootstrap/child.mjs';
import { BootstrapError } from './bootstrap/machine.mjs';
import { bootstrap, runScript, TEST_PARTS } from './bootstrap.mjs';

const BIOME = ['node_modules/@biomejs/biome/bin/biome', 'check', '--error-on-warnings'];

/** What each name runs, relative to the checkout, and what must be in order before. */
const PROGRAMS = {
  demo: { args: ['scripts/demo/main.ts'] },
  bench: { args: ['scripts/bench/main.ts'], need: TEST_PARTS },
  openapi: { args: ['scripts/openapi.ts'], need: ['modules'] },
  typecheck: { args: ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'], need: ['modules'] },
  lint: { args: BIOME, need: ['modules'] },
  format: { args: [...BIOME, '--write'], need: ['modules'] },
};

runScript(async () => {
  const [name, ...rest] = process.argv.slice(2);
  const program = Object.hasOwn(PROGRAMS, name ?? '') ? PROGRAMS[name] : undefined;
  if (program === undefined)
    throw new BootstrapError(`run what? One of: ${Object.keys(PROGRAMS).join(', ')}`);
  const { node, root } = bootstrap(program.need ? { need: program.need } : {});
  const [entry, ...args] = program.args;
  await runToEnd(node, [path.join(root, entry), ...args, ...rest], { cwd: root });
});
