// Step (d): the Node that runs the project. Pinned by package-lock.json where a prebuilt package exists
// (Linux x64 and arm64, glibc); elsewhere the Node at hand, if it is new enough.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { BootstrapError, output, readOrUndefined, stampMatches, writeStamp } from './machine.mjs';

const FLOOR = [22, 13];

export function locateNode(root) {
  const pinned = pinnedNode(root);
  if (pinned !== undefined) return pinned;
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > FLOOR[0] || (major === FLOOR[0] && minor >= FLOOR[1])) return process.execPath;
  throw new BootstrapError(
    `no pinned Node 24 for ${process.platform}-${process.arch} that runs here, and this is Node ` +
      `${process.versions.node}; start again with Node >= ${FLOOR.join('.')} (24 is what we test)`,
  );
}

function pinnedNode(root) {
  const folder = path.join(root, 'node_modules', `node-${process.platform}-${process.arch}`);
  const file = path.join(folder, 'bin', 'node');
  if (!existsSync(file)) return undefined;
  // Started once per installed version: on a machine without glibc the file exists and yet cannot run.
  const version = JSON.parse(readOrUndefined(path.join(folder, 'package.json'))).version;
  if (stampMatches(root, 'node', `runs ${version}`)) return file;
  if (output(file, ['--version']) === undefined) return undefined;
  writeStamp(root, 'node', `runs ${version}`);
  return file;
}
