import { secretKind } from '../../../../guard/vault/sealed-secret.ts';
import { isProblem } from '../../../../protocol/errors.ts';
import { deletedOf } from '../../../../protocol/pages.ts';
import { operation } from '../../../operation.ts';
import { changeVault } from '../act.ts';
import { credentialRow } from './row.ts';

export const deleteCredential = operation({
  id: 'deleteVaultCredential',
  method: 'delete',
  path: '/v1/vaults/{vault_id}/credentials/{credential_id}',
  tag: 'vaults',
  summary: 'Delete a credential and its secret',
  response: deletedOf('vault_credential_deleted'),
  problems: ['not_found', 'contended'],
  run: (call) =>
    changeVault(call, async () => {
      const row = await credentialRow(call);
      if (isProblem(row)) return row;
      const facts = { vault_id: String(row.body.vault_id), credential_id: row.id };
      return {
        event: { type: 'vault_credential.deleted', facts },
        deleteResources: [
          { kind: row.kind, id: row.id },
          { kind: secretKind, id: row.id },
        ],
        answer: { id: row.id, type: 'vault_credential_deleted' },
      };
    }),
});
