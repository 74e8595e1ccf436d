/** OAuth refresh against a token endpoint that misbehaves: what is sent, how often, and what is left of it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { accessTokenFor } from '../../src/guard/vault/oauth/access-token.ts';
import type { OAuth } from '../../src/guard/vault/oauth/refresh.ts';
import { validate } from '../../src/guard/vault/oauth/validate.ts';
import { credentialsOf, secretOf } from '../../src/guard/vault/vault.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { Script, ScriptedHttp } from '../peers/scripted-http.ts';
import { answerJson, startScriptedHttp } from '../peers/scripted-http.ts';
import type { TestVault } from './open-vault.ts';
import { openTestVault } from './open-vault.ts';

const secrets = ['at-OLD-value', 'rt-OLD-value', 'cs-CLIENT+value/1'];
let t: TestVault;
let peer: ScriptedHttp;
let vaultId: string;
let id: string;

/** Rotates: a refresh token is good once. */
function rotating(): Script {
  let current = 'rt-OLD-value';
  let count = 0;
  return (asked, response) => {
    const form = new URLSearchParams(asked.body);
    if (form.get('refresh_token') !== current) return answerJson(response, 400, { error: 'invalid_grant' });
    current = `rt-new-${++count}`;
    const token = { access_token: `at-new-${count}`, refresh_token: current, expires_in: 3600 };
    // Slow enough for others to come meanwhile.
    setTimeout(() => answerJson(response, 200, { token_type: 'Bearer', ...token }), 50);
  };
}

beforeEach(async () => {
  t = await openTestVault();
  peer = await startScriptedHttp(rotating());
  vaultId = await t.makeVault();
});

afterEach(async () => {
  await peer.close();
  await t.close();
});

type Client = 'none' | 'client_secret_basic' | 'client_secret_post';

async function putOAuth(client: Client = 'client_secret_basic', expiresAt = '2020-01-01T00:00:00.000Z') {
  const auth: OAuth = {
    type: 'mcp_oauth',
    mcp_server_url: `${peer.url}/mcp`,
    expires_at: expiresAt,
    refresh: {
      client_id: 'client id',
      token_endpoint: `${peer.url}/token`,
      token_endpoint_auth: { type: client },
      resource: null,
      scope: 'read',
    },
  };
  const [access_token = '', refresh_token = '', client_secret = ''] = secrets;
  const fields = { access_token, refresh_token, ...(client === 'none' ? {} : { client_secret }) };
  id = await t.put(vaultId, auth, fields);
  return auth;
}

const ask = (vault = t.vault) => accessTokenFor(vault, defaultTenant, [vaultId], `${peer.url}/mcp/`);
const stored = async () => (await secretOf(t.vault, defaultTenant, { vaultId, id }))?.fields;

describe('a refresh', () => {
  it.each<[Client]>([['none'], ['client_secret_basic'], ['client_secret_post']])(
    'with %s authenticates the client in that way alone, and stores what it got',
    async (client) => {
      await putOAuth(client);
      expect(await ask()).toMatchObject({ kind: 'token', token: 'at-new-1' });
      expect(await ask()).toMatchObject({ kind: 'token', token: 'at-new-1' });
      expect(peer.asked).toHaveLength(1);
      const [asked] = peer.asked;
      const form = Object.fromEntries(new URLSearchParams(asked?.body));
      const basic = `Basic ${Buffer.from('client+id:cs-CLIENT%2Bvalue%2F1').toString('base64')}`;
      expect(asked?.headers.authorization).toBe(client === 'client_secret_basic' ? basic : undefined);
      expect(form).toEqual({
        ...{ grant_type: 'refresh_token', refresh_token: 'rt-OLD-value', scope: 'read' },
        ...(client === 'client_secret_basic' ? {} : { client_id: 'client id' }),
        ...(client === 'client_secret_post' ? { client_secret: 'cs-CLIENT+value/1' } : {}),
      });
      expect(await stored()).toMatchObject({ access_token: 'at-new-1', refresh_token: 'rt-new-1' });
    },
  );

  it('asked for by many callers of three processes at once is one request', async () => {
    await putOAuth();
    const vaults = [t.vault, t.another(), t.another()];
    const endings = await Promise.all(vaults.flatMap((vault) => Array.from({ length: 5 }, () => ask(vault))));
    expect(new Set(endings.map((one) => one.kind === 'token' && one.token))).toEqual(new Set(['at-new-1']));
    expect(peer.asked).toHaveLength(1);
  });

  it('again and again over three processes never sends a token that was rotated', async () => {
    await putOAuth();
    const vaults = [t.vault, t.another(), t.another()];
    for (let round = 1; round <= 4; round++) {
      t.clock.aheadMs = round * 3_600_000;
      const endings = await Promise.all(vaults.map((vault) => ask(vault)));
      expect(endings.map((one) => one.kind === 'token' && one.token)).toEqual(
        Array(3).fill(`at-new-${round}`),
      );
    }
    const sent = peer.asked.map(({ body }) => new URLSearchParams(body).get('refresh_token'));
    expect(new Set(sent).size).toBe(sent.length);
  });

  it('left by a process that died is taken over after its lease, and not before', async () => {
    await putOAuth();
    // It asks and never hears: for the others it is dead.
    peer.script = () => undefined;
    const dead = ask(t.another());
    while (peer.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    peer.script = rotating();
    const other = t.another();
    const waiting = ask(other);
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(peer.asked).toHaveLength(1);
    t.clock.aheadMs = 61_000;
    expect(await waiting).toMatchObject({ kind: 'token', token: 'at-new-1' });
    // What the dead one would store is stored no more.
    expect((await dead).kind).toBe('failed');
    expect(await stored()).toMatchObject({ access_token: 'at-new-1', refresh_token: 'rt-new-1' });
  });

  it('answered too late, after another took over, stores nothing over what that one stored', async () => {
    await putOAuth();
    let late: (() => void) | null = null;
    peer.script = (_asked, response) => {
      late = () => answerJson(response, 200, { access_token: 'at-late', refresh_token: 'rt-late' });
    };
    const slow = ask(t.another());
    while (late === null) await new Promise((resolve) => setTimeout(resolve, 10));
    t.clock.aheadMs = 61_000;
    peer.script = rotating();
    expect(await ask(t.another())).toMatchObject({ kind: 'token', token: 'at-new-1' });
    (late as () => void)();
    expect((await slow).kind).toBe('failed');
    expect(await stored()).toMatchObject({ access_token: 'at-new-1', refresh_token: 'rt-new-1' });
  });

  const echo: Script = (asked, response) =>
    answerJson(response, 400, { error: `invalid_grant ${asked.body} ${asked.headers.authorization}` });
  const half: Script = (_asked, response) => {
    response.writeHead(200);
    response.write('{"access_token":"a', () => response.destroy());
  };
  const wrongs: [string, Script, RegExp][] = [
    ['500', (_asked, response) => answerJson(response, 500, {}), /answered 500/],
    ['never', () => undefined, /no answer within/],
    ['what is not JSON', (_asked, response) => void response.end('<html>at-OLD-value'), /without a bearer/],
    ['no token', (_asked, response) => answerJson(response, 200, { access_token: 7 }), /without a bearer/],
    ['a MAC token', (_asked, r) => answerJson(r, 200, { access_token: 'x', token_type: 'mac' }), /without a/],
    ['401', (_asked, response) => answerJson(response, 401, { error: 'invalid_client' }), /401 \(invalid_cl/],
    ['an echo of the secrets', echo, /answered 400$/],
    ['a redirect', (_asked, r) => void r.writeHead(302, { location: '/else' }).end(), /answered 302/],
    ['half an answer', half, /endpoint: /],
  ];
  it.each(wrongs)(
    'answered with %s fails, keeps the old token and shows no secret',
    async (_what, script, why) => {
      await t.close();
      t = await openTestVault(undefined, 300);
      vaultId = await t.makeVault();
      await putOAuth();
      peer.script = script;
      const ending = await ask();
      expect(ending).toMatchObject({ kind: 'failed', message: expect.stringMatching(why) });
      expect(await stored()).toMatchObject({ refresh_token: 'rt-OLD-value' });
      // A moment later nobody is asked again.
      const before = peer.asked.length;
      expect((await ask()).kind).toBe('failed');
      expect(peer.asked.length).toBe(before);
      const events = await t.store.read(defaultTenant.organization, 0, 100);
      expect(events.map(({ type }) => type)).toContain('vault_credential.refresh_failed');
      for (const secret of secrets) expect(JSON.stringify([ending, events])).not.toContain(secret);
    },
  );

  it('refused for good is not tried again; failed for now is, after a pause', async () => {
    await putOAuth();
    peer.script = (_asked, response) => answerJson(response, 503, {});
    await ask();
    t.clock.aheadMs = 31_000;
    peer.script = (_asked, response) => answerJson(response, 400, { error: 'invalid_grant' });
    expect(await ask()).toMatchObject({ message: expect.stringContaining('invalid_grant') });
    t.clock.aheadMs = 10_000_000;
    await ask();
    expect(peer.asked).toHaveLength(2);
  });
});

describe('the token for a server', () => {
  it('is of the first vault that has it, and never for another path, port or host', async () => {
    const second = await t.makeVault();
    const server = 'https://mcp.example.com/v1';
    await t.put(vaultId, { type: 'static_bearer', mcp_server_url: server }, { token: 'first' });
    await t.put(second, { type: 'static_bearer', mcp_server_url: `${server}/` }, { token: 'second' });
    const find = (url: string, vaults = [vaultId, second]) =>
      accessTokenFor(t.vault, defaultTenant, vaults, url);
    expect(await find('HTTPS://MCP.Example.com:443/v1/')).toMatchObject({ token: 'first' });
    expect(await find(server, [second, vaultId])).toMatchObject({ token: 'second' });
    for (const other of ['/v1/x', '/V1', '', ':8443/v1', '/v1?x=1'])
      expect(await find(`https://mcp.example.com${other}`)).toEqual({ kind: 'none' });
    expect(await find('https://a.mcp.example.com/v1')).toEqual({ kind: 'none' });
    expect(await find('http://mcp.example.com/v1')).toEqual({ kind: 'none' });
  });
});

describe('validation', () => {
  const probe = async () => {
    const [row] = await credentialsOf(t.vault.store, defaultTenant, vaultId);
    return validate(t.vault, { tenant: defaultTenant, vaultId, id }, row?.body.auth as unknown as OAuth);
  };

  it('refreshes a token that its server does not take, and says what it saw without a secret', async () => {
    await putOAuth('client_secret_basic', '2999-01-01T00:00:00.000Z');
    const token = rotating();
    peer.script = (asked, response) => {
      if (asked.path === '/token') return token(asked, response);
      const isGood = asked.headers.authorization === 'Bearer at-new-1';
      answerJson(response, isGood ? 200 : 401, { echo: asked.headers.authorization });
    };
    const result = await probe();
    expect(result).toMatchObject({
      status: 'valid',
      has_refresh_token: true,
      mcp_probe: { method: 'initialize', http_response: { status_code: 200 } },
      refresh: { status: 'succeeded', http_response: { status_code: 200 } },
    });
    expect(JSON.stringify(result)).not.toMatch(/at-new|rt-new|at-OLD|rt-OLD|CLIENT/);
  });

  it('tells a server that says no from one that can not be asked', async () => {
    await putOAuth('none', '2999-01-01T00:00:00.000Z');
    peer.script = (asked, response) =>
      answerJson(response, asked.path === '/token' ? 400 : 401, { error: 'invalid_grant', saw: asked.body });
    expect(await probe()).toMatchObject({ status: 'invalid', refresh: { status: 'failed' } });
    peer.script = (_asked, response) => answerJson(response, 500, {});
    expect(await probe()).toMatchObject({ status: 'unknown', refresh: null });
    const { url } = peer;
    await peer.close();
    expect(await probe()).toMatchObject({ status: 'unknown', mcp_probe: { http_response: null } });
    peer = await startScriptedHttp(rotating());
    expect(peer.url).not.toBe(url);
  });
});
