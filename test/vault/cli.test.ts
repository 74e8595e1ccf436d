/** `scriptorium vault` and `scriptorium secret` as typed, against a server on a real socket. */
import { spawn } from 'node:child_process';
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { resolveForSession } from '../../src/guard/vault/session-credentials.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { TestApi } from '../sdk/test-api.ts';
import { openTestApi } from '../sdk/test-api.ts';

let api: TestApi;
let server: Server;
const main = path.resolve(import.meta.dirname, '../../src/cli/main.ts');

beforeAll(async () => {
  api = await openTestApi();
  server = createServer(getRequestListener((request) => api.app.fetch(request)));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await api.close();
});

type Ran = { code: number | null; out: string; err: string };

function run(args: string[], stdin = ''): Promise<Ran> {
  const { port } = server.address() as AddressInfo;
  const env = { ...process.env, SCRIPTORIUM_URL: `http://127.0.0.1:${port}`, SCRIPTORIUM_API_KEY: api.key };
  const child = spawn(process.execPath, [main, ...args], { env });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk) => (out += chunk));
  child.stderr.on('data', (chunk) => (err += chunk));
  child.stdin.end(stdin);
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, out, err })));
}

it('a vault is made, a secret goes in from stdin, is replaced, and is never shown', async () => {
  const made = await run(['vault', 'create', 'Team']);
  const vaultId = made.out.trim();
  expect(vaultId).toMatch(/^vlt_/);
  const set = ['secret', 'set', 'GITHUB_TOKEN', '--vault', 'Team'];
  expect(await run(set, 'ghp_first-value-1234567890')).toMatchObject({ code: 2 });
  const stored = await run(
    [...set, '--host', 'api.github.com', '--host', '*.ghe.com'],
    'ghp_first-value-1234567890\n',
  );
  expect(stored).toMatchObject({ code: 0, err: expect.stringContaining('stored GITHUB_TOKEN') });
  const replaced = await run(set, 'ghp_second-value-1234567890\n');
  expect([replaced.code, replaced.out]).toEqual([0, stored.out]);
  const listed = await run(['vault', 'ls']);
  expect(listed.out).toContain('GITHUB_TOKEN');
  expect(listed.out).toContain('api.github.com, *.ghe.com');
  const rotated = await run(['vault', 'rotate']);
  expect(rotated).toMatchObject({ code: 0, out: expect.stringContaining('wrapped anew: 1') });
  expect(JSON.stringify([stored, replaced, listed, rotated])).not.toContain('value-1234567890');
  const { vault } = api.deps;
  if (!vault) throw new Error('no vault');
  const networking = { type: 'unrestricted' as const };
  const request = { session: 's', tenant: defaultTenant, vaultIds: [vaultId], networking };
  const { credentials } = await resolveForSession(vault, request);
  expect(credentials).toMatchObject([
    { secret: 'ghp_second-value-1234567890', hosts: ['api.github.com', '*.ghe.com'] },
  ]);
});

it('a value is taken from no argument, and a vault that is not there is said', async () => {
  const typed = await run(['secret', 'set', 'A', 'the-value-itself', '--vault', 'Team', '--host', 'a.com']);
  expect(typed.code).toBe(2);
  const missing = await run(['secret', 'set', 'A', '--vault', 'Nobody', '--host', 'a.com'], 'value-12345678');
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('there is no vault Nobody') });
  expect(await run(['secret', 'set', 'A', '--vault', 'Team', '--host', 'a.com'], '\n')).toMatchObject({
    code: 2,
  });
});
