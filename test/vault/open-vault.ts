/** A vault on a real SQLite store, for tests below the API; `second` is another process's on the same store. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Kek } from '../../src/guard/vault/kek.ts';
import { outbound, outboundDefaults } from '../../src/guard/vault/oauth/outbound.ts';
import type { SecretFields } from '../../src/guard/vault/sealed-secret.ts';
import { sealSecret, secretPut } from '../../src/guard/vault/sealed-secret.ts';
import type { Vault } from '../../src/guard/vault/vault.ts';
import { credentialKind, openVault, placeOf, vaultKind } from '../../src/guard/vault/vault.ts';
import { newId } from '../../src/protocol/ids.ts';
import type { JsonObject } from '../../src/protocol/json.ts';
import { defaultTenant } from '../../src/protocol/tenant.ts';
import type { CredentialAuth } from '../../src/protocol/vaults.ts';
import { credentialKeyOf } from '../../src/protocol/vaults.ts';
import { masterKeyPath } from '../../src/store/master-key.ts';
import { openStore } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';

export type TestVault = {
  directory: string;
  store: Store;
  vault: Vault;
  /** Milliseconds by which the clock is ahead. */
  clock: { aheadMs: number };
  another(change?: { kek?: Kek }): Vault;
  makeVault(): Promise<string>;
  put(vaultId: string, auth: CredentialAuth, fields: SecretFields): Promise<string>;
  close(): Promise<void>;
};

export type OpenStores = (directory: string) => Promise<{ stores: Store[]; masterKeyFile: string }>;

const sqlite: OpenStores = async (directory) => {
  const summarizeModule = new URL('../../src/session/summary.ts', import.meta.url);
  return {
    stores: [await openStore({ directory, summarizeModule })],
    masterKeyFile: masterKeyPath(directory),
  };
};

/** `openStores`: the processes of a fleet have one each; `another` takes the next. */
export async function openTestVault(
  kek?: Kek,
  timeoutMs = 2_000,
  openStores: OpenStores = sqlite,
): Promise<TestVault> {
  const directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-vault-'));
  const { stores, masterKeyFile } = await openStores(directory);
  const [store] = stores;
  if (store === undefined) throw new Error('no store');
  let opened = 0;
  const clock = { aheadMs: 0 };
  const another = (change: { kek?: Kek } = kek ? { kek } : {}) =>
    openVault({
      ...{ store: stores[opened++ % stores.length] ?? store, masterKeyFile, mayMakeKeys: true },
      nowMs: () => Date.now() + clock.aheadMs,
      outbound: outbound({ ...outboundDefaults, timeoutMs, allowPrivate: true }),
      ...change,
    });
  const vault = another();
  const organization = defaultTenant.organization;
  await store.append({ ...defaultTenant, stream: organization, create: true, events: [event('begun')] });
  const life = () => {
    const time = new Date().toISOString();
    return { version: 1, createdAt: time, updatedAt: time, archivedAt: null };
  };
  return {
    ...{ directory, store, vault, clock, another },
    async makeVault() {
      const id = newId('vault');
      const row = { kind: vaultKind, id, body: { type: 'vault', id }, uniqueName: null, ...life() };
      await store.append({ ...defaultTenant, stream: organization, events: [], resources: [row] });
      return id;
    },
    async put(vaultId, auth, fields) {
      const id = newId('vaultCredential');
      const body = { type: 'vault_credential', id, vault_id: vaultId, auth } as JsonObject;
      const row = { kind: credentialKind(vaultId), id, body, uniqueName: credentialKeyOf(auth), ...life() };
      const sealed = await sealSecret(vault.kek, placeOf(defaultTenant, { vaultId, id }), fields);
      const resources = [row, secretPut(id, sealed, row.createdAt)];
      await store.append({ ...defaultTenant, stream: organization, events: [], resources });
      return id;
    },
    async close() {
      await Promise.all(stores.map((one) => one.close()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function event(type: string) {
  const nothing = { thread: null, turn: null, call: null, causation: null, private: null };
  return { id: newId('event'), type, actor: 'test', audience: 'operator' as const, public: {}, ...nothing };
}
