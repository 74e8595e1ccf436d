/** The keys of the vault: sealing, rotation, and a key service that misbehaves. */
import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KekUnavailable } from '../../src/guard/vault/kek.ts';
import { keyServiceKek } from '../../src/guard/vault/key-service.ts';
import { outbound, outboundDefaults } from '../../src/guard/vault/oauth/outbound.ts';
import { rotateKeys } from '../../src/guard/vault/rotate.ts';
import type { SecretBody } from '../../src/guard/vault/sealed-secret.ts';
import {
  openSecret,
  sealSecret,
  secretBodyOf,
  secretKind,
  secretPut,
} from '../../src/guard/vault/sealed-secret.ts';
import { placeOf, secretOf } from '../../src/guard/vault/vault.ts';
import type { Json } from '../../src/protocol/json.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { CredentialAuth } from '../../src/protocol/vaults.ts';
import type { Script, ScriptedHttp } from '../peers/scripted-http.ts';
import { answerJson, startScriptedHttp } from '../peers/scripted-http.ts';
import type { TestVault } from './open-vault.ts';
import { openTestVault } from './open-vault.ts';

const by = { tenant: defaultTenant, actor: 'user:test' };
const bearer = (path = ''): CredentialAuth => ({
  type: 'static_bearer',
  mcp_server_url: `https://mcp.example.com/${path}`,
});
let t: TestVault;
let vaultId: string;

beforeEach(async () => {
  t = await openTestVault();
  vaultId = await t.makeVault();
});
afterEach(() => t.close());

const bodyOf = async (id: string): Promise<SecretBody> => {
  const row = await t.store.resource(defaultTenant, secretKind, id);
  if (row === null) throw new Error('no secret');
  return secretBodyOf(row);
};

describe('a sealed secret', () => {
  it('opens in its own row and field, and in no other one', async () => {
    const { kek } = t.vault;
    const place = { ...defaultTenant, vault: 'vlt_1', credential: 'vcrd_1' };
    const body = await sealSecret(kek, place, { token: 'one', client_secret: 'two' });
    expect(await openSecret(kek, place, body)).toEqual({ token: 'one', client_secret: 'two' });
    for (const change of [
      { organization: 'org_other' },
      { project: 'proj_other' },
      { vault: 'vlt_2' },
      { credential: 'vcrd_2' },
    ])
      await expect(openSecret(kek, { ...place, ...change }, body)).rejects.toBeInstanceOf(KekUnavailable);
    const { token = '', client_secret = '' } = body.fields;
    const swapped = { ...body, fields: { token: client_secret, client_secret: token } };
    await expect(openSecret(kek, place, swapped)).rejects.toBeInstanceOf(KekUnavailable);
    const other = await sealSecret(kek, place, { token: 'three' });
    const mixed = { ...body, fields: { ...body.fields, token: other.fields.token ?? '' } };
    await expect(openSecret(kek, place, mixed)).rejects.toBeInstanceOf(KekUnavailable);
  });

  it('has a data key of its own: two writings of the same value have nothing in common', async () => {
    const place = { ...defaultTenant, vault: 'v', credential: 'c' };
    const [a, b] = await Promise.all([1, 2].map(() => sealSecret(t.vault.kek, place, { token: 'x' })));
    expect(a?.wrapped_key).not.toBe(b?.wrapped_key);
    expect(a?.fields.token).not.toBe(b?.fields.token);
  });
});

describe('rotation of key files', () => {
  const keyFiles = () => readdirSync(path.join(t.directory, 'keys')).filter((name) => name !== 'master.key');

  it('makes a newer key of mode 0600 and wraps data keys anew; ciphertexts of secrets stay', async () => {
    const ids = await Promise.all(
      ['a', 'b', 'c'].map((at) => t.put(vaultId, bearer(at), { token: `tok-${at}` })),
    );
    const before = await Promise.all(ids.map(bodyOf));
    expect(before.map(({ key_id }) => key_id)).toEqual(['master', 'master', 'master']);
    expect(keyFiles()).toEqual([]);
    const rotation = await rotateKeys(t.vault, by);
    expect(rotation).toMatchObject({ rewrapped: 3, failed: 0 });
    const after = await Promise.all(ids.map(bodyOf));
    expect(after.map(({ key_id }) => key_id)).toEqual(Array(3).fill(rotation.keyId));
    expect(after.map(({ fields }) => fields)).toEqual(before.map(({ fields }) => fields));
    const [file = ''] = keyFiles();
    expect(statSync(path.join(t.directory, 'keys', file)).mode & 0o777).toBe(0o600);
    // Another process sees the newer key without being told.
    const live = await secretOf(t.another(), defaultTenant, { vaultId, id: ids[0] ?? '' });
    expect(live?.fields).toEqual({ token: 'tok-a' });
    // The older key is needed for nothing any more once it is rotated away from.
    t.clock.aheadMs = 1000;
    await rotateKeys(t.vault, by);
    rmSync(path.join(t.directory, 'keys', file));
    expect((await secretOf(t.vault, defaultTenant, { vaultId, id: ids[1] ?? '' }))?.fields).toEqual({
      token: 'tok-b',
    });
  });

  it('says how many it could not wrap anew where an older key is lost, and leaves them as they are', async () => {
    await rotateKeys(t.vault, by);
    const id = await t.put(vaultId, bearer(), { token: 'tok' });
    const before = await bodyOf(id);
    for (const file of keyFiles()) rmSync(path.join(t.directory, 'keys', file));
    t.clock.aheadMs = 1000;
    expect(await rotateKeys(t.vault, by)).toMatchObject({ rewrapped: 0, failed: 1 });
    expect(await bodyOf(id)).toEqual(before);
    await expect(secretOf(t.vault, defaultTenant, { vaultId, id })).rejects.toBeInstanceOf(KekUnavailable);
  });

  it('while another process replaces the secrets never puts an older one back', async () => {
    const id = await t.put(vaultId, bearer(), { token: 'tok-0' });
    const other = t.another();
    const replace = async (value: string): Promise<void> => {
      for (;;) {
        const head = (await t.store.stream(defaultTenant, defaultTenant.organization))?.head ?? 0;
        const sealed = await sealSecret(other.kek, placeOf(defaultTenant, { vaultId, id }), { token: value });
        const result = await t.store.append({
          ...{ ...defaultTenant, stream: defaultTenant.organization, expectedSeq: head },
          events: [noted()],
          resources: [secretPut(id, sealed, new Date().toISOString())],
          deleteResources: [{ kind: secretKind, id }],
        });
        if (result.status === 'ok') return;
      }
    };
    for (let round = 1; round <= 10; round++) {
      t.clock.aheadMs = round * 1000;
      await Promise.all([rotateKeys(t.vault, by), replace(`tok-${round}`)]);
      expect((await secretOf(t.vault, defaultTenant, { vaultId, id }))?.fields).toEqual({
        token: `tok-${round}`,
      });
    }
  });
});

function noted() {
  const nothing = { thread: null, turn: null, call: null, causation: null, private: null };
  const id = `sevt_${randomBytes(8).toString('hex')}`;
  return { id, type: 'noted', actor: 'test', audience: 'operator' as const, public: {}, ...nothing };
}

/** A key service as it should be: keeps its key, binds the context. */
function honest(): Script {
  const kept = new Map<string, { plaintext: string; context: string }>();
  let version = 1;
  return ({ path: at, body }, response) => {
    const asked = JSON.parse(body) as Record<string, string>;
    if (at === '/rotate') return answerJson(response, 200, { key_id: `kms/${++version}` });
    if (at === '/wrap') {
      const ciphertext = randomBytes(48).toString('base64');
      kept.set(ciphertext, { plaintext: asked.plaintext ?? '', context: asked.context ?? '' });
      return answerJson(response, 200, { key_id: `kms/${version}`, ciphertext });
    }
    const found = kept.get(asked.ciphertext ?? '');
    if (found?.context !== asked.context) return answerJson(response, 403, { error: 'no' });
    answerJson(response, 200, { plaintext: found?.plaintext ?? '' });
  };
}

describe('a key service', () => {
  let peer: ScriptedHttp;
  beforeEach(async () => {
    peer = await startScriptedHttp(honest());
  });
  afterEach(() => peer.close());

  const kekOf = () =>
    keyServiceKek({
      url: peer.url,
      token: 'kms-token',
      send: outbound({ ...outboundDefaults, timeoutMs: 300, allowPrivate: true }),
    });
  const place = { ...defaultTenant, vault: 'v', credential: 'c' };

  it('wraps, unwraps for the same place alone, and rotates', async () => {
    const vault = t.another({ kek: kekOf() });
    const sealed = await sealSecret(vault.kek, placeOf(defaultTenant, { vaultId, id: 'vcrd_k' }), {
      token: 'tok',
    });
    const put = secretPut('vcrd_k', sealed, new Date().toISOString());
    const stream = defaultTenant.organization;
    await t.store.append({ ...defaultTenant, stream, events: [], resources: [put] });
    expect(sealed.key_id).toBe('kms/1');
    expect(await rotateKeys(vault, by)).toEqual({ keyId: 'kms/2', rewrapped: 1, failed: 0 });
    const live = await secretOf(vault, defaultTenant, { vaultId, id: 'vcrd_k' });
    expect([live?.body.key_id, live?.fields]).toEqual(['kms/2', { token: 'tok' }]);
    await expect(openSecret(vault.kek, place, sealed)).rejects.toBeInstanceOf(KekUnavailable);
    expect(peer.asked.every(({ headers }) => headers.authorization === 'Bearer kms-token')).toBe(true);
    // The service sees keys of data, and no secret.
    expect(peer.asked.some(({ body }) => body.includes('tok"'))).toBe(false);
  });

  const asked = (body: string) => JSON.parse(body) as { plaintext: string };
  const wrongs: [string, Script, string][] = [
    ['never answers', () => undefined, 'no answer within'],
    ['answers 500', (_a, response) => answerJson(response, 500, { error: 'x' }), 'answered wrap with 500'],
    ['answers no JSON', (_a, response) => void response.end('<html>'), 'something else'],
    [
      'answers something else',
      (_a, response) => answerJson(response, 200, { ok: true as Json }),
      'something else',
    ],
    ['answers without end', (_a, r) => void r.end('x'.repeat(1_000_000)), 'something else'],
    [
      'gives the key back unwrapped',
      ({ body }, r) => answerJson(r, 200, { key_id: 'k', ciphertext: asked(body).plaintext }),
      'unwrapped',
    ],
    [
      'forgets what it wrapped',
      ({ path: at }, r) =>
        answerJson(
          r,
          200,
          at === '/wrap'
            ? { key_id: 'k', ciphertext: randomBytes(48).toString('base64') }
            : { plaintext: randomBytes(32).toString('base64') },
        ),
      'does not open again',
    ],
    ['redirects', (_a, r) => void r.writeHead(307, { location: '/other' }).end(), 'with 307'],
  ];
  it.each(wrongs)('that %s is refused before anything is sealed', async (_what, script, message) => {
    peer.script = script;
    const sealing = sealSecret(kekOf(), place, { token: 'tok' });
    await expect(sealing).rejects.toMatchObject({
      name: 'KekUnavailable',
      message: expect.stringContaining(message),
    });
  });

  it('that is gone makes the vault unavailable and breaks nothing', async () => {
    const kek = kekOf();
    const sealed = await sealSecret(kek, place, { token: 'tok' });
    const script = peer.script;
    peer.script = (_a, response) => void response.destroy();
    await expect(openSecret(kek, place, sealed)).rejects.toBeInstanceOf(KekUnavailable);
    peer.script = script;
    expect(await openSecret(kek, place, sealed)).toEqual({ token: 'tok' });
  });
});
