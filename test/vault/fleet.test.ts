/** The vault between the processes of a fleet, on real Postgres: what SQLite's one writer hides (S1, L3). */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { accessTokenFor } from '../../src/guard/vault/oauth/access-token.ts';
import { record } from '../../src/guard/vault/record.ts';
import { rotateKeys } from '../../src/guard/vault/rotate.ts';
import { sealSecret, secretKind, secretPut } from '../../src/guard/vault/sealed-secret.ts';
import type { Vault } from '../../src/guard/vault/vault.ts';
import { credentialKind, placeOf, secretOf } from '../../src/guard/vault/vault.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { CredentialAuth } from '../../src/protocol/vaults.ts';
import * as postgres from '../../src/store/postgres/engine-under-test.ts';
import { PostgresServer } from '../peers/postgres-server.ts';
import { answerJson, startScriptedHttp } from '../peers/scripted-http.ts';
import type { TestVault } from './open-vault.ts';
import { openTestVault } from './open-vault.ts';

let server: PostgresServer;
let t: TestVault;
let vaults: Vault[];
let vaultId: string;
const by = { tenant: defaultTenant, actor: 'user:test' };

beforeAll(async () => {
  server = await PostgresServer.start();
  process.env[postgres.serverVariable] = server.url('postgres');
}, 60_000);
afterAll(() => server?.stop());

beforeEach(async () => {
  t = await openTestVault(undefined, 2_000, async (directory) => {
    const first = await postgres.open(directory);
    const others = [await postgres.open(directory), await postgres.open(directory)];
    return { stores: [first, ...others], masterKeyFile: path.join(directory, 'master.key') };
  });
  vaults = [t.vault, t.another(), t.another()];
  vaultId = await t.makeVault();
}, 60_000);
afterEach(async () => {
  const { directory } = t;
  await t.close();
  await postgres.discard(directory);
});

const secretIn = async (vault: Vault, id: string) =>
  (await secretOf(vault, defaultTenant, { vaultId, id }))?.fields;

it('a refresh token is sent once, whichever processes ask', async () => {
  let current = 'rt-0';
  const peer = await startScriptedHttp((asked, response) => {
    if (new URLSearchParams(asked.body).get('refresh_token') !== current) {
      return answerJson(response, 400, { error: 'invalid_grant' });
    }
    current = `rt-${randomBytes(4).toString('hex')}`;
    const token = { access_token: `at-of-${current}`, refresh_token: current, expires_in: 3600 };
    setTimeout(() => answerJson(response, 200, token), 50);
  });
  try {
    const auth: CredentialAuth = {
      ...{ type: 'mcp_oauth', mcp_server_url: `${peer.url}/mcp`, expires_at: '2020-01-01T00:00:00.000Z' },
      refresh: {
        ...{ client_id: 'c', token_endpoint: `${peer.url}/token`, resource: null, scope: null },
        token_endpoint_auth: { type: 'none' },
      },
    };
    await t.put(vaultId, auth, { access_token: 'at-0', refresh_token: 'rt-0' });
    for (let round = 1; round <= 3; round++) {
      t.clock.aheadMs = round * 3_600_000;
      const asking = vaults.flatMap((vault) =>
        [1, 2].map(() => accessTokenFor(vault, defaultTenant, [vaultId], `${peer.url}/mcp`)),
      );
      const tokens = (await Promise.all(asking)).map((one) => (one.kind === 'token' ? one.token : one.kind));
      expect(new Set(tokens)).toEqual(new Set([`at-of-${current}`]));
      expect(peer.asked).toHaveLength(round);
    }
  } finally {
    await peer.close();
  }
});

it('a rotation of keys puts no older secret back, and none that was deleted', async () => {
  const [one, two] = vaults as [Vault, Vault];
  for (let round = 1; round <= 8; round++) {
    t.clock.aheadMs = round * 1000;
    const auth: CredentialAuth = { type: 'static_bearer', mcp_server_url: `https://m.example.com/${round}` };
    const [kept, gone] = [
      await t.put(vaultId, auth, { token: 'old' }),
      await t.put(vaultId, { ...auth, mcp_server_url: `${auth.mcp_server_url}/gone` }, { token: 'gone' }),
    ];
    const replaced = record(two, by, async () => {
      const sealed = await sealSecret(two.kek, placeOf(defaultTenant, { vaultId, id: kept }), {
        token: 'new',
      });
      return {
        ...{ type: 'test.replaced', facts: {}, value: null },
        resources: [secretPut(kept, sealed, new Date().toISOString())],
        deleteResources: [{ kind: secretKind, id: kept }],
      };
    });
    const deleted = record(two, by, async () => ({
      ...{ type: 'test.deleted', facts: {}, value: null },
      deleteResources: [
        { kind: secretKind, id: gone },
        { kind: credentialKind(vaultId), id: gone },
      ],
    }));
    await Promise.all([rotateKeys(one, by), replaced, deleted]);
    expect([await secretIn(one, kept), await secretIn(two, gone)]).toEqual([{ token: 'new' }, undefined]);
  }
});
