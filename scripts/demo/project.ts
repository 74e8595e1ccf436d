/**
 * The project the agent works on: small, real, without dependencies, with a bug and a test that finds it. What the
 * rehearsed model looks for in it is in `rehearsal/scripts/fix-bug.json`; nothing of that is written twice.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gitEnvironment } from '../../src/cli/repository/git.ts';

export type Facts = {
  sourcePath: string;
  testPath: string;
  bugLine: string;
  fixLine: string;
  soakCommand: string;
  witnessPath: string;
  branch: string;
  commitMessage: string;
  prompt: string;
  finalText: string;
};

/** Rounds of the soak: long enough to be killed in the middle of, short enough to be watched. */
export const soakRounds = 12;
const roundSeconds = 0.25;

const run = promisify(execFile);

function filesOf(facts: Facts): Record<string, string> {
  return {
    'package.json': `${JSON.stringify({ name: 'duration', version: '1.0.0', private: true, type: 'module', scripts: { test: 'node --test' } }, null, 2)}\n`,
    'README.md': '# duration\n\nReads durations like `1h30m` and gives milliseconds.\n',
    [facts.sourcePath]: `const unitMs = {
  s: 1_000,
  ${facts.bugLine}
  h: 3_600_000,
};

/** Milliseconds of a duration like \`1h30m\` or \`45s\`. Throws on anything else. */
export function parseDuration(text) {
  if (!/^(\\d+[smh])+$/.test(text)) throw new TypeError(\`not a duration: \${text}\`);
  let totalMs = 0;
  for (const [, count, unit] of text.matchAll(/(\\d+)([smh])/g)) totalMs += Number(count) * unitMs[unit];
  return totalMs;
}
`,
    [facts.testPath]: `import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDuration } from '../${facts.sourcePath}';

test('reads seconds', () => assert.equal(parseDuration('45s'), 45_000));
test('reads minutes', () => assert.equal(parseDuration('2m'), 120_000));
test('adds up hours, minutes and seconds', () => assert.equal(parseDuration('1h30m5s'), 5_405_000));
test('refuses what is no duration', () => assert.throws(() => parseDuration('soon'), TypeError));
`,
    [path.posix.normalize(facts.soakCommand)]: `#!/bin/sh
# Parses durations over and over. Every round leaves one line with the witness, outside of the sandbox's own disk.
set -e
round=1
while [ "$round" -le ${soakRounds} ]; do
  node --input-type=module -e "import { parseDuration } from './${facts.sourcePath}'; if (!(parseDuration('1h') > 0)) process.exit(1)"
  echo "round $round" >> ${facts.witnessPath}
  echo "round $round of ${soakRounds}: fine"
  round=$((round + 1))
  sleep ${roundSeconds}
done
`,
  };
}

/** Makes the repository with one commit. */
export async function makeProject(folder: string, facts: Facts): Promise<void> {
  for (const [name, content] of Object.entries(filesOf(facts))) {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
    if (name.endsWith('.sh')) await chmod(file, 0o755);
  }
  await git(folder, ['init', '--quiet', '--initial-branch=main', '.']);
  await git(folder, ['add', '--all']);
  await git(folder, ['commit', '--quiet', '--message', 'Read durations']);
}

export async function git(cwd: string, args: string[]): Promise<string> {
  const identity = {
    GIT_AUTHOR_NAME: 'Demo',
    GIT_AUTHOR_EMAIL: 'demo@scriptorium.invalid',
    GIT_COMMITTER_NAME: 'Demo',
    GIT_COMMITTER_EMAIL: 'demo@scriptorium.invalid',
  };
  const own = { ...identity, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1' };
  const { stdout } = await run('git', args, { cwd, env: gitEnvironment(own) });
  return stdout.trim();
}

export type TestResult = { pass: number; fail: number };

/** Runs the project's tests ourselves, in a clone of `revision`: what the agent said about them counts for nothing. */
export async function testRevision(repository: string, revision: string, into: string): Promise<TestResult> {
  const commit = await git(repository, ['rev-parse', '--verify', `${revision}^{commit}`]);
  await git(path.dirname(into), ['clone', '--quiet', '--no-checkout', repository, into]);
  await git(into, ['checkout', '--quiet', '--detach', commit]);
  const env = { ...process.env };
  delete env.NODE_OPTIONS;
  delete env.NODE_TEST_CONTEXT;
  const args = ['--test', '--test-reporter=tap'];
  const output = await run(process.execPath, args, { cwd: into, env }).then(
    ({ stdout }) => stdout,
    // Failing tests are an exit code, not an error of ours; the counts tell.
    (error: { stdout?: string }) => error.stdout ?? '',
  );
  const count = (what: string): number =>
    Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(output)?.[1] ?? Number.NaN);
  return { pass: count('pass'), fail: count('fail') };
}
