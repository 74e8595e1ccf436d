#!/usr/bin/env node
// `npm run verify`: everything that must hold before a commit: format and lint, types, all tests (architecture
// among them). Every stage runs even when an earlier one failed, so that one run shows all there is to mend.

import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChild } from './bootstrap/child.mjs';
import { runScript } from './bootstrap.mjs';

const STAGES = [
  { name: 'lint', args: ['run.mjs', 'lint'] },
  { name: 'types', args: ['run.mjs', 'typecheck'] },
  { name: 'tests', args: ['test.mjs', ...process.argv.slice(2)] },
];

runScript(async () => {
  const here = path.dirname(fileURLToPath(import.meta.url));
  const failed = [];
  for (const { name, args } of STAGES) {
    console.log(`\n== ${name}`);
    const [script, ...rest] = args;
    if ((await runChild(process.execPath, [path.join(here, script), ...rest])) !== 0) failed.push(name);
  }
  console.log(failed.length === 0 ? '\nverify: all stages passed' : `\nverify: failed: ${failed.join(', ')}`);
  if (failed.length > 0) process.exitCode = 1;
});
