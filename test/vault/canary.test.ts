/**
 * S1, looked for with canaries: random secrets go in through every way there is, and then everything that was kept,
 * answered, logged or thrown is searched for them. The one place they may come out of is what the gateway is given.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { accessTokenFor } from '../../src/guard/vault/oauth/access-token.ts';
import { resolveForSession } from '../../src/guard/vault/session-credentials.ts';
import type { Json } from '../../src/protocol/json.ts';
import { canonicalJson } from '../../src/protocol/json.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { ScriptedHttp } from '../peers/scripted-http.ts';
import { answerJson, startScriptedHttp } from '../peers/scripted-http.ts';
import type { TestApi } from '../sdk/test-api.ts';
import { makeSession, openTestApi } from '../sdk/test-api.ts';

let api: TestApi;
let peer: ScriptedHttp;
const canaries: string[] = [];
/** Everything that was said to anybody. */
const said: string[] = [];
/** Hashes that a database must not hold: a short secret could be guessed from them. */
const guessable: string[] = [];

function canary(prefix = ''): string {
  const secret = prefix + randomBytes(18).toString('base64url').replace(/[-_]/g, 'x');
  canaries.push(secret);
  return secret;
}

beforeAll(async () => {
  for (const stream of [process.stdout, process.stderr])
    vi.spyOn(stream, 'write').mockImplementation((chunk) => said.push(String(chunk)) > 0);
  for (const level of ['log', 'warn', 'error', 'info', 'debug'] as const)
    vi.spyOn(console, level).mockImplementation((...args) => void said.push(args.map(String).join(' ')));
  api = await openTestApi({ onBug: (error) => said.push(String((error as Error).stack)) });
  // Says everything back that it is told, and hands out tokens that are canaries as well.
  peer = await startScriptedHttp((asked, response) => {
    const echo = { ...asked.headers, body: asked.body };
    const refreshToken = new URLSearchParams(asked.body).get('refresh_token');
    if (asked.path === '/bad') return answerJson(response, 400, { error: 'invalid_grant', echo });
    if (asked.path !== '/token') return answerJson(response, asked.headers['x-ok'] ? 200 : 401, { echo });
    const token = { access_token: canary(), refresh_token: canary(), expires_in: 3600 };
    answerJson(response, 200, { ...token, old: refreshToken, echo });
  });
});

afterAll(async () => {
  vi.restoreAllMocks();
  await peer.close();
  await api.close();
});

async function ask(method: string, where: string, body?: unknown, key?: string) {
  const reply = await api.ask(method, where, body, key === undefined ? {} : { 'idempotency-key': key });
  said.push(JSON.stringify([reply.body, [...reply.headers]]));
  const digest = (text: string) => createHash('sha256').update(text).digest('hex');
  if (body !== undefined) guessable.push(digest(canonicalJson([method, where, body as Json])));
  return reply.body;
}

const oauth = (endpoint: string) => ({
  type: 'mcp_oauth',
  mcp_server_url: `${peer.url}${endpoint}/mcp`,
  access_token: canary(),
  refresh: {
    client_id: 'client',
    token_endpoint: `${peer.url}${endpoint}`,
    token_endpoint_auth: { type: 'client_secret_basic', client_secret: canary() },
    refresh_token: canary(),
  },
});

/** Every way in: created, updated, keyed, refused, archived, deleted, refreshed, rotated, validated. */
async function exercise(): Promise<void> {
  const vault = String((await ask('POST', '/v1/vaults', { display_name: 'V' })).id);
  const base = `/v1/vaults/${vault}/credentials`;
  const variable = (secret_name: string, more: object = {}) => ({
    auth: {
      ...{ type: 'environment_variable', secret_name, secret_value: canary('ghp_') },
      networking: { type: 'limited', allowed_hosts: ['api.github.com'] },
      ...more,
    },
  });
  const kept = await ask('POST', base, variable('KEPT'), 'key-1');
  const doomed = await ask('POST', base, variable('DOOMED'), 'key-2');
  const archived = await ask('POST', base, variable('ARCHIVED'));
  await ask('POST', base, {
    auth: { type: 'static_bearer', mcp_server_url: 'https://b.example.com', token: canary() },
  });
  for (const wrong of [
    variable('KEPT'),
    variable('bad name'),
    variable('A', { unknown: canary() }),
    variable('B', { secret_value: `${canary()}\n` }),
    { auth: { type: 'static_bearer', token: canary() } },
    { auth: { type: canary(), token: canary() } },
    { auth: canary() },
    {
      auth: { type: 'static_bearer', mcp_server_url: `https://u:${canary()}@x.example.com`, token: canary() },
    },
    `{"auth": "${canary()}`,
  ])
    await ask('POST', base, wrong);
  const update = { type: 'environment_variable', secret_value: canary() };
  await ask('POST', `${base}/${kept.id}`, { auth: update }, 'key-3');
  await ask('POST', `${base}/${kept.id}`, { auth: { ...update, secret_name: canary() } });
  await ask('DELETE', `${base}/${doomed.id}`);
  await ask('POST', `${base}/${archived.id}/archive`);
  for (const endpoint of ['/token', '/bad']) {
    const made = await ask('POST', base, { auth: oauth(endpoint) }, `key${endpoint}`);
    await ask('POST', `${base}/${made.id}/mcp_oauth_validate`);
  }
  await ask('POST', '/v1/vault_keys/rotate');
  for (const where of [base, `${base}?include_archived=true`, '/v1/vaults']) await ask('GET', where);
  const { id: session } = await makeSession(api, { vault_ids: [vault] });
  await ask('GET', `/v1/sessions/${session}`);
  const parts = api.deps.vault;
  if (!parts) throw new Error('no vault');
  const networking = { type: 'unrestricted' as const };
  const resolved = await resolveForSession(parts, {
    session,
    tenant: defaultTenant,
    vaultIds: [vault],
    networking,
  });
  expect(resolved.credentials.map(({ secret }) => canaries.includes(secret))).toEqual([true]);
  said.push(JSON.stringify([resolved.env, resolved.unreachable]));
  const token = await accessTokenFor(parts, defaultTenant, [vault], `${peer.url}/token/mcp`);
  expect(token.kind === 'token' && canaries.includes(token.token)).toBe(true);
  const failed = await accessTokenFor(parts, defaultTenant, [vault], `${peer.url}/bad/mcp`);
  said.push(failed.kind === 'failed' ? JSON.stringify(failed) : '');
  for (const stream of [defaultTenant.organization, session]) {
    // Opened, with what only the engine may read.
    said.push(JSON.stringify(await api.store.read(stream, 0, 1000)));
  }
}

async function filesOf(directory: string): Promise<[string, Buffer][]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  return Promise.all(files.map(async (file) => [path.relative(directory, file), await readFile(file)]));
}

/** As it is, and as it would stand in another encoding, at any alignment of base64. */
function formsOf(secret: string): string[] {
  const base64 = [0, 1, 2].map((skip) => {
    const text = Buffer.from('x'.repeat(skip) + secret).toString('base64');
    return text.slice(skip === 0 ? 0 : 4, -4);
  });
  return [secret, ...base64, Buffer.from(secret).toString('hex'), encodeURIComponent(secret)];
}

it('no secret is in the database, its WAL, the blobs, an answer, a log, an error or a stream', async () => {
  await exercise();
  const files = await filesOf(api.directory);
  expect(files.map(([name]) => name)).toEqual(expect.arrayContaining([expect.stringMatching(/-wal$/)]));
  expect(canaries.length).toBeGreaterThan(25);
  const found: string[] = [];
  for (const [index, secret] of canaries.entries()) {
    for (const form of formsOf(secret)) {
      for (const [name, bytes] of files) if (bytes.includes(form)) found.push(`${index} in ${name}`);
      for (const text of said) if (text.includes(form)) found.push(`${index} said: ${text.slice(0, 120)}`);
    }
  }
  for (const hash of guessable) {
    for (const [name, bytes] of files) if (bytes.includes(hash)) found.push(`hash of a request in ${name}`);
  }
  expect(found).toEqual([]);
});
