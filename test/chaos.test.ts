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

it('a short attack on SQLite breaks no promise', { timeout: 150_000 }, async () => {
  const { code, stdout, stderr } = await chaos('--seed', '7', '--seconds', '12', '--sessions', '3');
  const report = JSON.parse(stdout || '{}');
  expect(report.violations, stderr).toEqual([]);
  expect(report).toMatchObject({ held: true, seed: 7, violations_by_promise: {} });
  // It was an attack, and there was work under it.
  expect(report.steps).toBeGreaterThan(10);
  expect(report.mttr_ms.deaths).toBeGreaterThan(2);
  expect(code).toBe(0);
});

it('what is wrongly asked is refused before anything is started', async () => {
  const { code, stderr } = await chaos('--seconds', 'soon');
  expect(code).toBe(2);
  expect(stderr).toContain('--seconds is a number');
});
