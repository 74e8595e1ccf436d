import { secretKind } from '../../../guard/vault/sealed-secret.ts';
import { credentialKind, credentialsOf, vaultKind } from '../../../guard/vault/vault.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { deletedOf } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { changeVault, vaultRow } from './act.ts';

export const deleteVault = operation({
  id: 'deleteVault',
  method: 'delete',
  path: '/v1/vaults/{vault_id}',
  tag: 'vaults',
  summary: 'Delete a vault with its credentials and their secrets',
  response: deletedOf('vault_deleted'),
  problems: ['not_found', 'contended'],
  run: (call) =>
    changeVault(call, async ({ tenant }) => {
      const row = await vaultRow(call);
      if (isProblem(row)) return row;
      const ids = (await credentialsOf(call.deps.store, tenant, row.id, true)).map(({ id }) => id);
      const rows = ids.flatMap((id) => [
        { kind: credentialKind(row.id), id },
        { kind: secretKind, id },
      ]);
      return {
        event: { type: 'vault.deleted', facts: { vault_id: row.id, credential_ids: ids } },
        deleteResources: [{ kind: vaultKind, id: row.id }, ...rows],
        answer: { id: row.id, type: 'vault_deleted' },
      };
    }),
});
