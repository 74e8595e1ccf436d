/**
 * What the vault is built of, once per process, and the rows it keeps.
 *
 * - `vault`: one row a vault. `vault_credential/<vault id>`: what is shown of a credential. `vault_secret`: what is not.
 * - Every writing is made under the head of the organisation's stream that was read before the rows (`expectedSeq`), so
 *   what was deleted or archived meanwhile never comes back, and no secret is overwritten by an older one.
 */
import { createHmac } from 'node:crypto';
import type { Resource, Store, Tenant } from '../../store/store.ts';
import type { Kek } from './kek.ts';
import { derivedKey, keyFilesKek } from './key-files.ts';
import type { Outbound } from './oauth/outbound.ts';
import type { RefreshEnding } from './oauth/refresh.ts';
import type { SecretBody, SecretFields, SecretPlace } from './sealed-secret.ts';
import { openSecret, secretBodyOf, secretKind } from './sealed-secret.ts';

export const vaultKind = 'vault';

export function credentialKind(vaultId: string): string {
  return `vault_credential/${vaultId}`;
}

export type Vault = {
  store: Store;
  kek: Kek;
  nowMs(): number;
  /** Keys what has to be the same again and is no secret itself: placeholders, hashes of requests. */
  derive(purpose: string, text: string): Buffer;
  /** One after the other for an organisation, in this process. */
  serially<T>(organization: string, work: () => Promise<T>): Promise<T>;
  /** Refreshes under way in this process, by credential. */
  refreshing: Map<string, Promise<RefreshEnding>>;
  /** How requests leave for token endpoints and MCP servers. */
  outbound: Outbound;
};

export type OpenVault = {
  store: Store;
  masterKeyFile: string;
  nowMs(): number;
  /** False in a fleet (key-files.ts). */
  mayMakeKeys: boolean;
  /** Instead of key files. */
  kek?: Kek;
  outbound: Outbound;
};

export function openVault({ store, masterKeyFile, nowMs, mayMakeKeys, kek, outbound }: OpenVault): Vault {
  const root = derivedKey(masterKeyFile, 'vault derivations');
  return {
    store,
    nowMs,
    outbound,
    serially: queues(),
    refreshing: new Map(),
    kek: kek ?? keyFilesKek({ masterKeyFile, mayMake: mayMakeKeys, nowMs }),
    derive: (purpose, text) => createHmac('sha256', root).update(`${purpose}\n${text}`).digest(),
  };
}

function queues(): Vault['serially'] {
  const tails = new Map<string, Promise<unknown>>();
  return (organization, work) => {
    const done = (tails.get(organization) ?? Promise.resolve()).then(work);
    const tail = done.catch(() => undefined);
    tails.set(organization, tail);
    return done;
  };
}

export type LiveSecret = { fields: SecretFields; body: SecretBody };

/** The secrets of a credential; null where it is archived or was deleted. */
export async function secretOf(
  vault: Pick<Vault, 'store' | 'kek'>,
  tenant: Tenant,
  credential: { vaultId: string; id: string },
): Promise<LiveSecret | null> {
  const row = await vault.store.resource(tenant, secretKind, credential.id);
  if (row === null) return null;
  const body = secretBodyOf(row);
  return { body, fields: await openSecret(vault.kek, placeOf(tenant, credential), body) };
}

export function placeOf(tenant: Tenant, credential: { vaultId: string; id: string }): SecretPlace {
  return { ...pick(tenant), vault: credential.vaultId, credential: credential.id };
}

const pageSize = 100;

/** All credentials of a vault, newest first. */
export async function credentialsOf(
  store: Store,
  tenant: Tenant,
  vaultId: string,
  includeArchived = false,
): Promise<Resource[]> {
  return allRows(store, { ...pick(tenant), kind: credentialKind(vaultId), includeArchived });
}

export async function allRows(
  store: Store,
  query: Tenant & { kind: string; includeArchived: boolean },
): Promise<Resource[]> {
  const rows: Resource[] = [];
  for (;;) {
    const last = rows.at(-1);
    const after = last && { createdAt: last.createdAt, id: last.id, version: last.version };
    const page = await store.listResources({ ...query, ...(after ? { after } : {}), limit: pageSize });
    rows.push(...page);
    if (page.length < pageSize) return rows;
  }
}

function pick({ organization, project }: Tenant): Tenant {
  return { organization, project };
}
