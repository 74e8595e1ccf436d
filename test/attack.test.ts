// Every row of the attack through a whole server, as CI runs it: one process, one exit code. That rows can turn red is
// attack/sabotage.test.ts.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const program = path.resolve(import.meta.dirname, '../attack/main.ts');

it('no hostile script gets further than it should (S1, S2, S3, S4, S5)', { timeout: 240_000 }, async () => {
  const flags = ['--disable-warning=ExperimentalWarning', program, '--json'];
  const ran = await promisify(execFile)(process.execPath, flags).catch(
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  const report = JSON.parse(ran.stdout || '{}') as { rows?: { broken: boolean }[]; held?: boolean };
  expect(report.rows?.filter(({ broken }) => broken)).toEqual([]);
  expect(report.held).toBe(true);
  expect('code' in ran ? ran.code : 0).toBe(0);
});
