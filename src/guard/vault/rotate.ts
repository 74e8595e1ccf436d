/**
 * Rotation of the key-encryption key: a newer version, then every data key wrapped anew. The secrets are not opened.
 * Broken off, it is finished by asking again; until then both versions are needed.
 */
import type { Tenant } from '../../store/store.ts';
import { KekUnavailable } from './kek.ts';
import { record } from './record.ts';
import { rewrapSecret, secretBodyOf, secretKind, secretPut } from './sealed-secret.ts';
import type { Vault } from './vault.ts';
import { allRows, placeOf } from './vault.ts';

export type KeyRotation = {
  keyId: string;
  rewrapped: number;
  /** Data keys whose old key could not be had; they are as they were. */
  failed: number;
};

type By = { tenant: Tenant; actor: string };

/** Rejects with `KekUnavailable` where there is no newer key to be had. */
export async function rotateKeys(vault: Vault, by: By): Promise<KeyRotation> {
  const keyId = await vault.kek.advance();
  await record(vault, by, async () => ({
    type: 'vault_key.advanced',
    facts: { key_id: keyId },
    value: null,
  }));
  const rows = await allRows(vault.store, { ...by.tenant, kind: secretKind, includeArchived: false });
  let rewrapped = 0;
  let failed = 0;
  for (const { id } of rows) {
    const ending = await rewrapOne(vault, by, id, keyId);
    if (ending === 'rewrapped') rewrapped++;
    if (ending === 'failed') failed++;
  }
  return { keyId, rewrapped, failed };
}

type Ending = 'rewrapped' | 'failed' | 'unchanged';

async function rewrapOne(vault: Vault, by: By, id: string, keyId: string): Promise<Ending> {
  try {
    return await record<Ending>(vault, by, async () => {
      const row = await vault.store.resource(by.tenant, secretKind, id);
      const body = row && secretBodyOf(row);
      if (row === null || body === null || body.key_id === keyId) return { type: null, value: 'unchanged' };
      const next = await rewrapSecret(vault.kek, placeOf(by.tenant, { vaultId: body.vault_id, id }), body);
      return {
        type: 'vault_credential.rewrapped',
        facts: { vault_id: body.vault_id, credential_id: id, key_id: next.key_id },
        resources: [secretPut(id, next, row.createdAt)],
        deleteResources: [{ kind: secretKind, id }],
        value: 'rewrapped',
      };
    });
  } catch (error) {
    if (error instanceof KekUnavailable) return 'failed';
    throw error;
  }
}
