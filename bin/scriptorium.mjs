#!/usr/bin/env node
// The `scriptorium` command. Finds a Node that is new enough, builds dist/ in a fresh checkout, and hands over.
// It imports nothing of the project but scripts/, so that it also starts where nothing is installed yet.

import { existsSync } from 'node:fs';
import module from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runToEnd } from '../scripts/bootstrap/child.mjs';
import { locateNode } from '../scripts/bootstrap/node.mjs';
import { bootstrap, runScript } from '../scripts/bootstrap.mjs';

const self = fileURLToPath(import.meta.url);
const root = path.resolve(path.dirname(self), '..');
const entry = path.join(root, 'dist', 'src', 'cli', 'main.js');

runScript(async () => {
  if (!existsSync(entry)) bootstrap();
  if (runsHere()) {
    module.enableCompileCache?.();
    await import(pathToFileURL(entry).href);
  } else {
    await runToEnd(locateNode(root), [self, ...process.argv.slice(2)]);
  }
});

function runsHere() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  return major > 22 || (major === 22 && minor >= 13);
}
