/** Two processes change the same credential: one is held between its reading and its writing while the other acts. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createApi } from '../../src/api/app.ts';
import { secretKind } from '../../src/guard/vault/sealed-secret.ts';
import type { Vault } from '../../src/guard/vault/vault.ts';
import { openVault, secretOf } from '../../src/guard/vault/vault.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import { masterKeyPath } from '../../src/store/master-key.ts';
import type { TestApi } from '../sdk/test-api.ts';
import { openTestApi } from '../sdk/test-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

function vaultOfServer(): Vault {
  const { vault } = api.deps;
  if (!vault) throw new Error('no vault');
  return vault;
}

/** Another process's API, whose first sealing waits until it is let go. */
function heldApi() {
  const { store, deps } = api;
  const { outbound, kek } = vaultOfServer();
  let arrive = () => {};
  let release = () => {};
  const arrived = new Promise<void>((resolve) => (arrive = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const slow: Vault['kek'] = {
    ...kek,
    async wrap(dataKey, place) {
      arrive();
      await released;
      return kek.wrap(dataKey, place);
    },
  };
  const options = { store, outbound, kek: slow, mayMakeKeys: true, nowMs: Date.now };
  const vault = openVault({ ...options, masterKeyFile: masterKeyPath(api.directory) });
  const app = createApi({ ...deps, vault });
  const post = (where: string, body: object) =>
    app.request(where, {
      method: 'POST',
      headers: { authorization: `Bearer ${api.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  return { post, arrived, release: () => release() };
}

const auth = {
  ...{ type: 'environment_variable', secret_name: 'A', secret_value: 'the-first-value' },
  networking: { type: 'unrestricted' },
};
const newer = { auth: { type: 'environment_variable', secret_value: 'the-second-value' } };

async function made() {
  const vault = String((await api.ask('POST', '/v1/vaults', { display_name: 'V' })).body.id);
  const id = String((await api.ask('POST', `/v1/vaults/${vault}/credentials`, { auth })).body.id);
  return { vault, id, path: `/v1/vaults/${vault}/credentials/${id}` };
}

it.each([
  ['deleted', 'DELETE', '', 404],
  ['archived', 'POST', '/archive', 400],
])('a credential that is %s while it is updated elsewhere stays so, without a secret', async (...args) => {
  const [, method, verb, status] = args;
  const { path, id } = await made();
  const other = heldApi();
  const updating = other.post(path, newer);
  await other.arrived;
  expect((await api.ask(method, `${path}${verb}`)).status).toBe(200);
  other.release();
  expect((await updating).status).toBe(status);
  expect(await api.store.resource(defaultTenant, secretKind, id)).toBeNull();
});

it('a vault that is deleted while a credential is made in it elsewhere does not come back', async () => {
  const { vault } = await made();
  const other = heldApi();
  const making = other.post(`/v1/vaults/${vault}/credentials`, { auth: { ...auth, secret_name: 'B' } });
  await other.arrived;
  expect((await api.ask('DELETE', `/v1/vaults/${vault}`)).status).toBe(200);
  other.release();
  expect((await making).status).toBe(404);
  const secrets = await api.store.listResources({ ...defaultTenant, kind: secretKind, limit: 100 });
  expect(secrets.filter(({ body }) => body.vault_id === vault)).toEqual([]);
});

it('of two updates at once the later one reads what the earlier one wrote', async () => {
  const { vault, id, path } = await made();
  const other = heldApi();
  const updating = other.post(path, newer);
  await other.arrived;
  expect((await api.ask('POST', path, { display_name: 'named meanwhile' })).status).toBe(200);
  other.release();
  expect((await updating).status).toBe(200);
  expect((await api.ask('GET', path)).body.display_name).toBe('named meanwhile');
  const live = await secretOf(vaultOfServer(), defaultTenant, { vaultId: vault, id });
  expect(live?.fields.secret_value).toBe('the-second-value');
});
