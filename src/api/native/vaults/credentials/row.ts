import { credentialKind } from '../../../../guard/vault/vault.ts';
import type { Problem } from '../../../../protocol/errors.ts';
import { isProblem, problem } from '../../../../protocol/errors.ts';
import type { CredentialAuth } from '../../../../protocol/vaults.ts';
import type { Resource } from '../../../../store/store.ts';
import type { Call } from '../../../operation.ts';
import { vaultRow } from '../act.ts';

/** A credential of the vault in the path. */
export async function credentialRow(
  call: Pick<Call<unknown, unknown>, 'deps' | 'principal' | 'params'>,
): Promise<Resource | Problem> {
  const vault = await vaultRow(call);
  if (isProblem(vault)) return vault;
  const id = call.params.credential_id ?? '';
  const row = await call.deps.store.resource(call.principal.tenant, credentialKind(vault.id), id);
  return row ?? problem('not_found', `There is no credential ${id} in this vault.`);
}

export function authOf(row: Resource): CredentialAuth {
  return row.body.auth as unknown as CredentialAuth;
}
