/**
 * The fault tests of who is alive can say no: with one protection taken out of the store (failpoints `sabotage.*`), the test
 * that is there for it turns red, and for that reason.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../../..');
const vitest = path.join(
  path.dirname(createRequire(import.meta.url).resolve('vitest/package.json')),
  'vitest.mjs',
);

type Verdict = { title: string; status: string; failureMessages: string[] };

/** Runs one test of `liveness.test.ts` in a process of its own. */
async function judged(title: string, sabotage: string | null): Promise<Verdict> {
  const clean = Object.entries(process.env).filter(([name]) => !/^(VITEST|SCRIPTORIUM)/.test(name));
  const armed = sabotage === null ? {} : { SCRIPTORIUM_FAILPOINTS: `${sabotage}=lie@1+` };
  const folder = await mkdtemp(path.join(tmpdir(), 'scriptorium-sabotage-'));
  const file = path.join(folder, 'report.json');
  const output = ['--reporter=json', `--outputFile=${file}`];
  const args = ['run', 'src/store/postgres/liveness.test.ts', '-t', title, ...output];
  const child = spawn(process.execPath, [vitest, ...args], {
    cwd: root,
    env: { ...Object.fromEntries(clean), ...armed },
    stdio: 'ignore',
  });
  await once(child, 'close');
  const report = JSON.parse(await readFile(file, 'utf8')) as {
    testResults: { assertionResults: Verdict[] }[];
  };
  await rm(folder, { recursive: true });
  const ran = report.testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === 'passed' || status === 'failed');
  expect(ran).toHaveLength(1);
  return ran[0] as Verdict;
}

const neverCame = 'it never came to that';

const sabotages = [
  {
    what: 'the store asks nobody for the fence',
    sabotage: 'sabotage.no-fence',
    title: 'a worker whose liveness connection alone is cut',
    // The append of the one that was taken for dead is written.
    reason: 'fenced',
  },
  {
    what: 'nobody looks whether a worker has its lock',
    sabotage: 'sabotage.no-liveness-lock',
    title: 'kill -9 of a worker frees what it held at once',
    reason: neverCame,
  },
  {
    what: 'leases do not end',
    sabotage: 'sabotage.no-lease',
    title: 'a process that is frozen for longer than its lease',
    reason: neverCame,
  },
  {
    what: 'a worker that cannot renew its lease does not give up',
    sabotage: 'sabotage.no-self-fencing',
    title: 'a worker behind a network that swallows everything',
    // Taken over, and not aborted.
    reason: 'to deeply equal [ +0, true ]',
  },
];

describe.concurrent('the fault test turns red where', () => {
  it.each(sabotages)('$what', { timeout: 60_000 }, async ({ title, sabotage, reason }) => {
    const { status, failureMessages } = await judged(title, sabotage);
    expect(status).toBe('failed');
    expect(failureMessages.join('\n')).toContain(reason);
  });
});

it('with everything in its place the same test is green', { timeout: 60_000 }, async () => {
  expect(await judged('kill -9 of a worker frees what it held at once', null)).toMatchObject({
    status: 'passed',
  });
});
