#!/usr/bin/env node
// `npm test`: bootstraps the checkout, then runs vitest once under the pinned Node. Arguments go to vitest
// (`npm test -- src/session`), except --no-build, which skips dist/ and native/ for tests that start neither.

import path from 'node:path';
import { runToEnd } from './bootstrap/child.mjs';
import { bootstrap, runScript, TEST_PARTS } from './bootstrap.mjs';

runScript(async () => {
  const args = process.argv.slice(2).filter((arg) => arg !== '--no-build');
  const skipsBuild = args.length < process.argv.length - 2;
  const { node, root } = bootstrap({ need: skipsBuild ? ['modules'] : TEST_PARTS });
  const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');
  await runToEnd(node, [vitest, 'run', ...args], { cwd: root });
});
