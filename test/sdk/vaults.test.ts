/** Vaults through the published SDK over a real socket: every operation, its rules and its refusals (§8 of the protocol). */
import type { Server } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Anthropic from '@anthropic-ai/sdk';
import { getRequestListener } from '@hono/node-server';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from './test-api.ts';
import { openTestApi } from './test-api.ts';

let api: TestApi;
let server: Server;
let client: Anthropic;
let requests = 0;

beforeAll(async () => {
  api = await openTestApi();
  const listener = getRequestListener(api.app.fetch);
  server = createServer((request, response) => {
    requests++;
    return listener(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  // Its own two retries stay on: what must not be retried has to say so.
  client = new Anthropic({ baseURL: `http://127.0.0.1:${port}`, apiKey: api.key });
});

afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await api.close();
});

type Auth = Anthropic.Beta.Vaults.CredentialCreateParams['auth'];

const makeVault = async () => (await client.beta.vaults.create({ display_name: 'Team' })).id;
const variable = (secret_name: string, more: object = {}): Auth => ({
  type: 'environment_variable',
  secret_name,
  secret_value: 'ghp_realRealRealRealRealRealRealReal1234',
  networking: { type: 'limited', allowed_hosts: ['API.GitHub.com', '*.example.com'] },
  ...more,
});
const bearer = (mcp_server_url: string): Auth => ({ type: 'static_bearer', mcp_server_url, token: 'tok-1' });
const oauth = (more: object = {}): Auth => ({
  type: 'mcp_oauth',
  mcp_server_url: 'https://mcp.example.com/mcp',
  access_token: 'at-secret-1',
  expires_at: '2999-01-01T00:00:00Z',
  refresh: {
    client_id: 'client',
    token_endpoint: 'https://auth.example.com/token',
    token_endpoint_auth: { type: 'client_secret_basic', client_secret: 'cs-secret-1' },
    refresh_token: 'rt-secret-1',
    scope: 'read',
  },
  ...more,
});
const refusal = (asked: Promise<unknown>) =>
  asked.then(
    () => 'accepted',
    (error: { status?: number; message?: string }) => `${error.status} ${error.message}`,
  );

describe('vaults through the SDK', () => {
  it('create, retrieve, update, list, archive and delete', async () => {
    const { vaults } = client.beta;
    const made = await vaults.create({ display_name: 'Mine', metadata: { a: '1', b: '2' } });
    expect(made).toMatchObject({ type: 'vault', id: expect.stringMatching(/^vlt_/), archived_at: null });
    expect(await vaults.retrieve(made.id)).toEqual(made);
    const renamed = await vaults.update(made.id, { display_name: 'Ours', metadata: { a: null, c: '3' } });
    expect(renamed).toMatchObject({ display_name: 'Ours', metadata: { b: '2', c: '3' } });
    const ids: string[] = [];
    for await (const one of vaults.list({ limit: 1 })) ids.push(one.id);
    expect(ids).toContain(made.id);
    const archived = await vaults.archive(made.id);
    expect(archived.archived_at).toEqual(expect.any(String));
    expect(await vaults.archive(made.id)).toEqual(archived);
    expect(await refusal(vaults.update(made.id, { display_name: 'x' }))).toContain('400');
    const live: string[] = [];
    for await (const one of vaults.list()) live.push(one.id);
    expect(live).not.toContain(made.id);
    expect(await vaults.delete(made.id)).toEqual({ id: made.id, type: 'vault_deleted' });
    expect(await refusal(vaults.retrieve(made.id))).toContain('404');
  });

  it('credentials of all three types show everything but their secrets', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    const shown = await Promise.all(
      [oauth(), bearer('https://other.example.com'), variable('GITHUB_TOKEN')].map((auth) =>
        credentials.create(vault, { auth, display_name: 'one' }),
      ),
    );
    expect(shown.map(({ auth }) => auth)).toEqual([
      {
        type: 'mcp_oauth',
        mcp_server_url: 'https://mcp.example.com/mcp',
        expires_at: '2999-01-01T00:00:00.000Z',
        refresh: {
          client_id: 'client',
          token_endpoint: 'https://auth.example.com/token',
          token_endpoint_auth: { type: 'client_secret_basic' },
          resource: null,
          scope: 'read',
        },
      },
      { type: 'static_bearer', mcp_server_url: 'https://other.example.com' },
      {
        type: 'environment_variable',
        secret_name: 'GITHUB_TOKEN',
        networking: { type: 'limited', allowed_hosts: ['api.github.com', '*.example.com'] },
        injection_location: { header: true, body: false },
      },
    ]);
    const listed: unknown[] = [];
    for await (const one of credentials.list(vault, { limit: 1 })) listed.push(one);
    expect(JSON.stringify([shown, listed])).not.toMatch(/secret-1|tok-1|realReal/);
    const [first] = shown;
    if (first) expect(await credentials.retrieve(first.id, { vault_id: vault })).toEqual(first);
  });

  it('a second credential for the same server or variable is a 409 that the SDK does not repeat', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    const first = await credentials.create(vault, { auth: oauth() });
    await credentials.create(vault, { auth: variable('A') });
    const same = [variable('A'), oauth(), bearer('HTTPS://MCP.example.com:443/mcp/')];
    for (const auth of same) {
      const before = requests;
      expect(await refusal(credentials.create(vault, { auth }))).toMatch(/^409/);
      expect(requests - before).toBe(1);
    }
    await credentials.create(vault, { auth: bearer('https://mcp.example.com:8443/mcp') });
    await credentials.archive(first.id, { vault_id: vault });
    await credentials.create(vault, { auth: oauth() });
  });

  it('the 21st credential is refused, also when all are made at once', async () => {
    const vault = await makeVault();
    const names = Array.from({ length: 24 }, (_, index) => `TOKEN_${index}`);
    const made = await Promise.all(
      names.map((name) => refusal(client.beta.vaults.credentials.create(vault, { auth: variable(name) }))),
    );
    expect(made.filter((ending) => ending === 'accepted')).toHaveLength(20);
    expect(made.filter((ending) => ending.includes('at most 20'))).toHaveLength(4);
  });

  it.each<[object, string]>([
    [{ injection_location: { body: true, header: true } }, 'secrets go into headers'],
    [{ injection_location: {} }, 'put nowhere'],
    [{ injection_location: { header: false } }, 'put nowhere'],
    [{ injection_location: null }, 'auth.injection_location'],
    [{ networking: { type: 'limited', allowed_hosts: ['https://x.com'] } }, 'without a scheme'],
    [{ networking: { type: 'limited', allowed_hosts: ['*'] } }, 'wildcard'],
    [{ networking: { type: 'limited', allowed_hosts: ['x.com:443'] } }, 'without a port'],
    [{ networking: { type: 'limited', allowed_hosts: ['300.1.1.1'] } }, 'IPv4'],
    [{ networking: { type: 'limited', allowed_hosts: ['127.0x1'] } }, 'not a host'],
    [{ networking: { type: 'limited', allowed_hosts: ['*.com'] } }, 'too wide'],
    [{ networking: { type: 'limited', allowed_hosts: Array(17).fill('a.com') } }, 'allowed_hosts'],
    [{ secret_name: 'LD_PRELOAD' }, 'sandbox itself'],
    [{ secret_name: 'a b' }, 'environment variable'],
    [{ secret_value: 'two\nlines' }, 'one line'],
  ])('a variable that could not be kept is refused: %j', async (change, message) => {
    const vault = await makeVault();
    const made = refusal(client.beta.vaults.credentials.create(vault, { auth: variable('A', change) }));
    expect(await made).toMatch(/^400/);
    expect(await made).toContain(message);
  });

  it.each<[object, string]>([
    [{ expires_at: '2001-01-01T00:00:00Z' }, 'in the future'],
    [{ mcp_server_url: 'http://mcp.example.com' }, 'must be https'],
    [{ mcp_server_url: 'https://me:pass@mcp.example.com' }, 'user or password'],
    [{ mcp_server_url: 'nonsense' }, 'must be a URL'],
  ])('an OAuth credential that could not work is refused: %j', async (change, message) => {
    const vault = await makeVault();
    const made = await refusal(client.beta.vaults.credentials.create(vault, { auth: oauth(change) }));
    expect(made).toMatch(/^400/);
    expect(made).toContain(message);
  });

  it('updates merge; what names or types a credential never changes', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    const made = await credentials.create(vault, { auth: variable('A'), metadata: { a: '1' } });
    const update = (auth: object) =>
      credentials.update(made.id, { vault_id: vault, auth: { type: 'environment_variable', ...auth } });
    const next = await update({ networking: { type: 'unrestricted' } });
    expect(next.auth).toMatchObject({
      networking: { type: 'unrestricted' },
      injection_location: { header: true, body: false },
    });
    expect((await update({ injection_location: { body: false } })).auth).toEqual(next.auth);
    expect(await refusal(update({ injection_location: { header: false } }))).toContain('put nowhere');
    expect(await refusal(update({ secret_name: 'B' }))).toContain('can not be changed');
    expect(await refusal(update({ type: 'static_bearer', token: 'x' }))).toContain('auth.type');
    const before = await credentials.retrieve(made.id, { vault_id: vault });
    expect(await update({ secret_value: 'another-secret-value' })).toMatchObject({ auth: before.auth });
    const named = await credentials.update(made.id, { vault_id: vault, display_name: 'N' });
    expect(named).toMatchObject({ display_name: 'N', metadata: { a: '1' } });
  });

  it('an OAuth update keeps what it leaves out and clears the scope on ""', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    const made = await credentials.create(vault, { auth: oauth() });
    const update = (auth: object) =>
      credentials.update(made.id, { vault_id: vault, auth: { type: 'mcp_oauth', ...auth } });
    expect((await update({ refresh: { scope: '' } })).auth).toMatchObject({ refresh: { scope: null } });
    // An expiry speaks of the token it came with.
    expect((await update({ access_token: 'at-2' })).auth).toMatchObject({ expires_at: null });
    const other = { token_endpoint_auth: { type: 'client_secret_post', client_secret: 'x' } };
    expect(await refusal(update({ refresh: other }))).toContain('can not be changed');
  });

  it('archiving a vault archives its credentials and destroys their secrets; a stranger to it gets 404', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    const made = await credentials.create(vault, { auth: variable('A') });
    const tenant = { organization: 'org_default', project: 'proj_default' };
    expect(await api.store.resource(tenant, 'vault_secret', made.id)).not.toBeNull();
    await client.beta.vaults.archive(vault);
    const after = await credentials.retrieve(made.id, { vault_id: vault });
    expect(after.archived_at).toEqual(expect.any(String));
    expect(await api.store.resource(tenant, 'vault_secret', made.id)).toBeNull();
    expect(await refusal(credentials.create(vault, { auth: variable('B') }))).toContain('archived');
    expect(await refusal(credentials.update(made.id, { vault_id: vault, display_name: 'x' }))).toContain(
      '400',
    );
    const elsewhere = await makeVault();
    expect(await refusal(credentials.retrieve(made.id, { vault_id: elsewhere }))).toContain('404');
    expect(await credentials.delete(made.id, { vault_id: vault })).toMatchObject({
      type: 'vault_credential_deleted',
    });
  });

  it('deleting a credential at the moment it is changed leaves no secret behind', async () => {
    const vault = await makeVault();
    const { credentials } = client.beta.vaults;
    for (let round = 0; round < 5; round++) {
      const { id } = await credentials.create(vault, { auth: variable('A') });
      await Promise.all([
        refusal(
          credentials.update(id, {
            vault_id: vault,
            auth: { type: 'environment_variable', secret_value: 'a-newer-secret-value' },
          }),
        ),
        credentials.delete(id, { vault_id: vault }),
      ]);
      const tenant = { organization: 'org_default', project: 'proj_default' };
      expect(await api.store.resource(tenant, 'vault_secret', id)).toBeNull();
    }
  });
});
