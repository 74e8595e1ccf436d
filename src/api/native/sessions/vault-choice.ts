import { vaultKind } from '../../../guard/vault/vault.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { problem } from '../../../protocol/errors.ts';
import type { Store, Tenant } from '../../../store/store.ts';

/** What is wrong with the vaults a session asks for. One archived later stays with the sessions that have it. */
export async function vaultsProblem(store: Store, tenant: Tenant, ids: string[]): Promise<Problem | null> {
  const rows = await Promise.all(ids.map((id) => store.resource(tenant, vaultKind, id)));
  for (const [index, row] of rows.entries()) {
    const place = `vault_ids.${index}`;
    if (row === null) return problem('invalid_request', `${place}: there is no vault ${ids[index]}.`);
    if (row.archivedAt !== null)
      return problem('invalid_request', `${place}: this vault is archived and takes no new sessions.`);
  }
  return null;
}
