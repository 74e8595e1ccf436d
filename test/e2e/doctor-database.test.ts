// `scriptorium doctor --database-url`, as an operator runs it before a fleet's first start.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PostgresServer } from '../peers/postgres-server.ts';

const patience = { timeout: 60_000 };
const entry = path.resolve(import.meta.dirname, '../../src/cli/main.ts');

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
}, 60_000);
afterAll(() => server?.stop());

function doctor(...more: string[]): Promise<{ code: number; stdout: string }> {
  const args = [entry, 'doctor', '--database-url', server.url('postgres'), ...more];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env: { ...process.env, NO_COLOR: '1' } }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    );
  });
}

it('says what a database lacks, and ends with 1 only where it cannot carry a fleet', patience, async () => {
  const sound = await doctor();
  expect(sound.code).toBe(0);
  expect(sound.stdout).toMatch(/ok {2}database fsync/);
  expect(sound.stdout).toMatch(/no {2}database standby[^\n]*\n *→ \w/);
  expect(sound.stdout).toContain('It can carry a fleet.');
  await server.query('postgres', 'ALTER SYSTEM SET fsync = off');
  await server.query('postgres', 'SELECT pg_reload_conf()');
  const unsound = await doctor();
  expect(unsound.code).toBe(1);
  expect(unsound.stdout).toMatch(/NO {2}database fsync[^\n]*\n *→ Set fsync = on/);
  const report = JSON.parse((await doctor('--json')).stdout) as { usable: boolean; checks: object[] };
  expect(report.usable).toBe(false);
  expect(report.checks).toContainEqual(
    expect.objectContaining({ check: 'database fsync', ok: false, required: true }),
  );
});
