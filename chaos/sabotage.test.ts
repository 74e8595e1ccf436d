/**
 * The judge can say no: each of these runs takes one protection out of the real processes (the failpoints named
 * `sabotage.*`), and the verdict must turn red for just that reason. What no process can be talked into is in
 * check.test.ts, with logs made by hand.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const program = path.resolve(import.meta.dirname, 'main.ts');

type Verdict = { code: unknown; report: Record<string, unknown> };

/** What strikes only at a takeover needs one that falls into a command: where none did, another attack is made. */
async function attackWithout(sabotage: string): Promise<Verdict> {
  let verdict: Verdict = { code: null, report: {} };
  for (const seed of ['3', '4', '5', '6']) {
    verdict = await attackOnce(sabotage, seed);
    if (verdict.report.held !== true) break;
  }
  return verdict;
}

async function attackOnce(sabotage: string, seed: string): Promise<Verdict> {
  const size = ['--seed', seed, '--seconds', '40', '--steps', '40', '--sessions', '3', '--pace', '1200'];
  const args = [...size, '--json', '--sabotage', sabotage];
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  const kept = /all of it is in (\S+scriptorium-chaos-\w+)/.exec(stderr)?.[1];
  if (kept) rmSync(kept, { recursive: true, force: true });
  return { code, report: JSON.parse(stdout || '{}') };
}

const sabotages = [
  ['the API acknowledges what it never wrote', 'sabotage.acknowledge-unwritten=lie@3', 'I1'],
  ['the API forgets request keys', 'sabotage.forget-request-key=lie@1+', 'I1'],
  ['the engine runs taken-over calls again', 'sabotage.rerun-taken-over=lie@1+', 'I6'],
  ['calls run without an intent', 'sabotage.no-intent=lie@1+', 'I5'],
  ['a stream leaves an event out', 'sabotage.skip-in-stream=lie@7', 'I8'],
] as const;

/** Two at a time: each is several processes. */
const lanes = [Promise.resolve(), Promise.resolve()];
const attacks = sabotages.map(([, sabotage], index) => {
  const attack = (lanes[index % lanes.length] as Promise<unknown>).then(() => attackWithout(sabotage));
  lanes[index % lanes.length] = attack.then(() => undefined);
  return attack;
});

describe('the verdict turns red where', () => {
  it.each(sabotages.map(([what, , promise], index) => ({ what, promise, index })))(
    '$what',
    { timeout: 200_000 },
    async ({ promise, index }) => {
      const { code, report } = (await attacks[index]) ?? { code: null, report: {} };
      expect(report.held).toBe(false);
      expect(report.violations_by_promise).toHaveProperty(promise);
      expect(code).toBe(1);
    },
  );
});
