/**
 * Every folder here is one case of apply_patch: `input/` is the workspace before, `patch.txt` what the model sent, and
 * after it the workspace is either `expected/`, or unchanged with the message in `error.txt`.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { textOf } from '../../../src/protocol/content.ts';
import { applyPatch } from '../../../src/tools/apply-patch.ts';
import type { ToolOutcome } from '../../../src/tools/tool.ts';
import { MemoryExecutor } from '../../peers/memory-executor.ts';

const workspace = '/workspace/';
const scenarios = readdirSync(import.meta.dirname).filter((name) => /^\d{3}_/.test(name));

function filesBelow(folder: string): Record<string, string> {
  if (!existsSync(folder)) return {};
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  const files = names.map((name) => join(folder, name)).filter((path) => statSync(path).isFile());
  // One character per byte, so that a difference in any byte shows.
  return Object.fromEntries(files.map((path) => [relative(folder, path), readFileSync(path, 'latin1')]));
}

function filesIn(executor: MemoryExecutor): Record<string, string> {
  const entries = [...executor.files].filter(([path]) => path.startsWith(workspace));
  return Object.fromEntries(
    entries.map(([path, file]) => [path.slice(workspace.length), Buffer.from(file.data).toString('latin1')]),
  );
}

async function apply(executor: MemoryExecutor, patch: string): Promise<ToolOutcome> {
  const signal = new AbortController().signal;
  const context = { session: 'sesn_1', fence: 1, callId: 'call_1', cwd: '/workspace', executor, signal };
  return applyPatch.run({ input: patch }, context);
}

describe.each(scenarios)('%s', (name) => {
  const folder = join(import.meta.dirname, name);
  const before = filesBelow(join(folder, 'input'));
  const patch = readFileSync(join(folder, 'patch.txt'), 'utf8');
  const errorFile = join(folder, 'error.txt');
  const isError = existsSync(errorFile);

  it(isError ? 'is refused, says why, and changes nothing' : 'gives what is expected', async () => {
    const executor = MemoryExecutor.running('sesn_1');
    for (const [path, bytes] of Object.entries(before))
      executor.put(workspace + path, Buffer.from(bytes, 'latin1'));
    const outcome = await apply(executor, patch);
    const text = textOf(outcome.content);
    if (isError) expect(`${text}\n`).toBe(readFileSync(errorFile, 'utf8'));
    else expect(text).toMatch(/^Success\. Updated the following files:\n/);
    expect(outcome.isError).toBe(isError);
    expect(filesIn(executor)).toEqual(isError ? before : filesBelow(join(folder, 'expected')));
  });
});

it('there are scenarios, and each says either what is expected or which error', () => {
  expect(scenarios.length).toBeGreaterThan(25);
  for (const name of scenarios) {
    const ends = ['expected', 'error.txt'].filter((end) => existsSync(join(import.meta.dirname, name, end)));
    expect([name, ends]).toEqual([name, [expect.any(String)]]);
  }
});
