/**
 * The short attack that every change has to stand: the real processes, killed and lied to for some seconds, and every
 * promise held. The long one is `scriptorium chaos` (docs/operations/durability.md).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { expect, it } from 'vitest';

const program = path.resolve(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

async function chaos(...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [program, 'chaos', '--json', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

it.each([
  { store: 'sqlite', seconds: 12, deaths: 2 },
  { store: 'postgres', seconds: 15, deaths: 2 },
])('a short attack on $store breaks no promise', { timeout: 170_000 }, async ({ store, seconds, deaths }) => {
  const size = ['--seed', '7', '--seconds', String(seconds), '--sessions', '3', '--pace', '1000'];
  const { code, stdout, stderr } = await chaos('--store', store, ...size);
  const report = JSON.parse(stdout || '{}');
  expect(report.violations, stderr).toEqual([]);
  expect(report).toMatchObject({ held: true, store, seed: 7, violations_by_promise: {} });
  // It was an attack, and there was work under it.
  expect(report.results).toBeGreaterThan(5);
  expect(report.mttr_ms.deaths).toBeGreaterThanOrEqual(deaths);
  expect(code).toBe(0);
});

it('what is wrongly asked is refused before anything is started', async () => {
  const { code, stderr } = await chaos('--seconds', 'soon');
  expect(code).toBe(2);
  expect(stderr).toContain('--seconds is a number');
});
