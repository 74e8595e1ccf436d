/** What a session gets of its vaults: placeholders that are like the real thing, stable and worth nothing. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileCredentials } from '../../src/gateway/credentials.ts';
import { placeholderOf, shapeOf } from '../../src/guard/vault/placeholder.ts';
import { hostsReachable } from '../../src/guard/vault/reach.ts';
import type { SessionCredentials } from '../../src/guard/vault/session-credentials.ts';
import { resolveForSession } from '../../src/guard/vault/session-credentials.ts';
import type { Networking } from '../../src/protocol/environments.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { TestApi } from '../sdk/test-api.ts';
import { makeSession, openTestApi } from '../sdk/test-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const makeVault = async () => String((await api.ask('POST', '/v1/vaults', { display_name: 'V' })).body.id);
const limited = (...allowed_hosts: string[]) => ({ type: 'limited' as const, allowed_hosts });
const allowing = (allowed_hosts: string[], more: object = {}): Networking => ({
  ...{ type: 'limited', allowed_hosts, allow_mcp_servers: false, allow_package_managers: false },
  ...more,
});
const rule = (effect: string, hosts: string[], more: object = {}) => ({
  rules: [{ effect, hosts, ports: null, methods: null, paths: null, ...more }],
});
const anywhere = { type: 'unrestricted' as const };
const secretOne = 'ghp_16C7e42F292c6912E7710c838347Ae178B4a';

async function put(
  vault: string,
  secret_name: string,
  secret_value = secretOne,
  networking: object = limited('api.github.com'),
) {
  const auth = { type: 'environment_variable', secret_name, secret_value, networking };
  const reply = await api.ask('POST', `/v1/vaults/${vault}/credentials`, { auth });
  expect(reply.status).toBe(200);
  return String(reply.body.id);
}

function resolve(
  vaultIds: string[],
  more: { session?: string; networking?: Networking } = {},
): Promise<SessionCredentials> {
  const { vault } = api.deps;
  if (!vault) throw new Error('no vault');
  return resolveForSession(vault, {
    ...{ session: 'sesn_1', tenant: defaultTenant, vaultIds, networking: allowing(['api.github.com']) },
    ...more,
  });
}

describe('what a session gets', () => {
  it('a placeholder for the sandbox, the secret and its hosts for the gateway, which takes them', async () => {
    const vault = await makeVault();
    const id = await put(vault, 'GITHUB_TOKEN');
    const { env, credentials, unreachable } = await resolve([vault]);
    const placeholder = env.GITHUB_TOKEN ?? '';
    expect(placeholder).toMatch(/^ghp_[0-9A-Za-z]{36}$/);
    expect(placeholder).not.toBe(secretOne);
    expect(credentials).toEqual([{ id, placeholder, secret: secretOne, hosts: ['api.github.com'] }]);
    expect(unreachable).toEqual([]);
    expect(compileCredentials(credentials)).toHaveLength(1);
  });

  it('the same placeholder again after a restart and after a longer secret; another one in another session', async () => {
    const vault = await makeVault();
    const id = await put(vault, 'A_TOKEN');
    const before = await resolve([vault]);
    const auth = { type: 'environment_variable', secret_value: `sk-${'x1'.repeat(40)}` };
    await api.ask('POST', `/v1/vaults/${vault}/credentials/${id}`, { auth });
    await api.restart();
    const after = await resolve([vault]);
    expect(after.env).toEqual(before.env);
    expect(after.credentials[0]?.secret).toBe(auth.secret_value);
    expect((await resolve([vault], { session: 'sesn_2' })).env).not.toEqual(before.env);
  });

  it('nothing of what was archived, the first of two vaults that have a name, and no server credentials', async () => {
    const [first, second] = [await makeVault(), await makeVault()];
    const gone = await put(first, 'GONE');
    await api.ask('POST', `/v1/vaults/${first}/credentials/${gone}/archive`);
    const mine = await put(first, 'BOTH', 'first-value-000000000000');
    const other = await put(second, 'BOTH', 'second-value-00000000000');
    const auth = { type: 'static_bearer', mcp_server_url: 'https://m.example.com', token: 't' };
    await api.ask('POST', `/v1/vaults/${first}/credentials`, { auth });
    const { env, credentials } = await resolve([first, second]);
    expect([Object.keys(env), credentials.map(({ id }) => id)]).toEqual([['BOTH'], [mine]]);
    expect((await resolve([second, first])).credentials.map(({ id }) => id)).toEqual([other]);
  });

  it('an error that names vault and credential, and no secret, where the environment allows none of its hosts', async () => {
    const vault = await makeVault();
    const credential_id = await put(vault, 'FAR', secretOne, limited('internal.example.com'));
    const { env, credentials, unreachable } = await resolve([vault]);
    expect(Object.keys(env)).toEqual(['FAR']);
    expect(credentials).toEqual([]);
    const type = 'credential_host_unreachable_error';
    expect(unreachable).toMatchObject([{ type, vault_id: vault, credential_id }]);
    expect(JSON.stringify(unreachable)).not.toContain(secretOne);
  });
});

describe('hosts', () => {
  const cases: [string, object, Networking, string[] | null][] = [
    ['its own where one is allowed', limited('a.com', 'b.com'), allowing(['b.com']), ['a.com', 'b.com']],
    ['its own in an open environment', limited('a.com'), anywhere, ['a.com']],
    ['by a wildcard of the environment', limited('x.a.com'), allowing(['*.a.com']), ['x.a.com']],
    ['by a wildcard of its own', limited('*.a.com'), allowing(['x.a.com']), ['*.a.com']],
    ['the environment’s, where it names none', anywhere, allowing(['a.com']), ['a.com']],
    [
      'its own where hosts are asked for',
      limited('a.com'),
      allowing([], { unknown_hosts: 'ask' }),
      ['a.com'],
    ],
    ['its own where a rule allows', limited('a.com'), allowing([], rule('allow', ['A.com'])), ['a.com']],
    [
      'a registry’s where package managers may go there',
      limited('registry.npmjs.org'),
      allowing([], { allow_package_managers: true }),
      ['registry.npmjs.org'],
    ],
    [
      'still its own where only a path is denied',
      limited('a.com'),
      allowing(['a.com'], rule('deny', ['a.com'], { paths: ['/x'] })),
      ['a.com'],
    ],
    ['none where a rule denies', limited('x.a.com'), allowing(['x.a.com'], rule('deny', ['*.a.com'])), null],
    ['none where nobody names one', anywhere, anywhere, null],
    ['none where the environment allows none', anywhere, allowing([]), null],
    ['none where a wildcard is next to it', limited('a.com'), allowing(['*.a.com']), null],
    ['none where it only ends alike', limited('evila.com'), allowing(['a.com', '*.a.com']), null],
  ];
  it.each(cases)('are %s', (_what, credential, environment, hosts) => {
    const reach = hostsReachable(credential as Parameters<typeof hostsReachable>[0], environment);
    expect('hosts' in reach ? reach.hosts : null).toEqual(hosts);
  });
});

describe('placeholders', () => {
  const random = (seed: number) => (block: number) => Buffer.alloc(32, (seed * 31 + block * 7) & 255);
  const printable = fc.string({
    unit: fc.integer({ min: 32, max: 126 }).map((code) => String.fromCharCode(code)),
    minLength: 8,
    maxLength: 200,
  });

  it('have the length and the kinds of characters of any secret that is long enough', () => {
    const long = fc.string({
      unit: fc.constantFrom(...'0123456789abcdefABCDEFxyzXYZ-_.'),
      minLength: 60,
      maxLength: 90,
    });
    fc.assert(
      fc.property(long, fc.integer(), (secret, seed) => {
        fc.pre(secret.replace(/[-_.]/g, '').length >= 40 && /[a-z]/.test(secret) && /[A-Z]/.test(secret));
        const made = placeholderOf(shapeOf(secret), random(seed));
        expect(made).toHaveLength(secret.length);
        expect(made.replace(/[0-9A-Za-z]/g, '*')).toBe(secret.replace(/[0-9A-Za-z]/g, '*'));
        if (!/\d/.test(secret)) expect(made).not.toMatch(/\d/);
      }),
    );
  });

  it('are fit for a header, never short, and never the secret, whatever the secret is', () => {
    fc.assert(
      fc.property(printable, fc.integer(), (secret, seed) => {
        const made = placeholderOf(shapeOf(secret), random(seed));
        expect(made).toMatch(/^[\x21-\x7e]{10,}$/);
        expect(made).not.toBe(secret);
      }),
      {
        examples: [
          ['--------', 1],
          ['12345678', 2],
          ['aaaaaaaa', 3],
          ['        ', 4],
        ],
      },
    );
  });

  it.each([
    ['AKIAIOSFODNN7EXAMPLE', /^AKIA[A-Z0-9]{16}$/],
    ['sk-proj-abcDEF123abcDEF123abcDEF123', /^sk-proj-[0-9A-Za-z]{27}$/],
    ['xoxb-1234567890-ABCdef1234567890abc', /^xoxb-[0-9A-Za-z]{10}-[0-9A-Za-z]{19}$/],
    ['8f14e45fceea167a5a36dedd4bea2543', /^[0-9a-f]{32}$/],
    ['hunter22', /^[0-9A-Za-z]{32}$/],
  ])('of %s look like it', (secret, form) => {
    const made = placeholderOf(shapeOf(secret), random(5));
    expect(made).toMatch(form);
  });
});

describe('vault_ids of a session', () => {
  it('are pinned in order, shown, and refused once their vault is archived', async () => {
    const [a, b] = [await makeVault(), await makeVault()];
    const { id } = await makeSession(api, { vault_ids: [b, a] });
    expect((await api.ask('GET', `/v1/sessions/${id}`)).body.vault_ids).toEqual([b, a]);
    const [created] = await api.store.read(id, 0, 1);
    expect(created?.private?.vaultIds).toEqual([b, a]);
    await api.ask('POST', `/v1/vaults/${a}/archive`);
    await expect(makeSession(api, { vault_ids: [a] })).rejects.toThrow(/vault_ids.0: this vault is archived/);
    expect((await api.ask('GET', `/v1/sessions/${id}`)).body.vault_ids).toEqual([b, a]);
  });
});
