// The size of functions, measured by biome (a real parser) with the limit of biome.json.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Offence } from './rules.ts';
import { isTest } from './source.ts';

const RULE = 'complexity/noExcessiveLinesPerFunction';

/** Functions that are too long in those of the given folders that exist under `root`, by the biome.json there. */
export function functionSizeOffences(
  root: string,
  folders: readonly string[],
  biomePackage = path.join(root, 'node_modules', '@biomejs', 'biome'),
): Offence[] {
  const present = folders.filter((folder) => existsSync(path.join(root, folder)));
  if (present.length === 0) return [];
  const args = ['lint', `--only=${RULE}`, '--reporter=github', '--max-diagnostics=none', ...present];
  const program = path.join(biomePackage, 'bin', 'biome');
  const child = spawnSync(process.execPath, [program, ...args], { cwd: root, encoding: 'utf8' });
  const printed = `${child.stdout}${child.stderr}`;
  const offences = [...printed.matchAll(/^::\w+ .*?\bfile=([^,]*),line=(\d+),.*?::(.*)$/gm)].map(
    ([, file = '', line = '1', what = '']) => ({
      file: path.relative(root, path.resolve(root, file)),
      line: Number(line),
      what,
    }),
  );
  // Fail closed: a biome that could not do its work must not look like a clean tree.
  if (child.status !== 0 && offences.length === 0) throw new Error(`biome failed:\n${printed}`);
  // --only outweighs the override of biome.json that leaves tests their long describe blocks.
  return offences.filter((one) => !isTest(one.file));
}
