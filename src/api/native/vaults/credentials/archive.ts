import { secretKind } from '../../../../guard/vault/sealed-secret.ts';
import { isProblem } from '../../../../protocol/errors.ts';
import { vaultCredential } from '../../../../protocol/vaults.ts';
import { operation } from '../../../operation.ts';
import { putOf, shownRow } from '../../../rows.ts';
import { changeVault } from '../act.ts';
import { credentialRow } from './row.ts';

/** Its secret is destroyed, its key (server or variable) free again; the record stays. */
export const archiveCredential = operation({
  id: 'archiveVaultCredential',
  method: 'post',
  path: '/v1/vaults/{vault_id}/credentials/{credential_id}/archive',
  tag: 'vaults',
  summary: 'Archive a credential and destroy its secret',
  response: vaultCredential,
  problems: ['not_found', 'contended'],
  run: (call) =>
    changeVault(call, async ({ nowMs }) => {
      const row = await credentialRow(call);
      if (isProblem(row)) return row;
      if (row.archivedAt !== null) return { event: null, answer: shownRow(row) };
      const time = new Date(nowMs).toISOString();
      const put = putOf(row, { archivedAt: time, updatedAt: time, uniqueName: null });
      const facts = { vault_id: String(row.body.vault_id), credential_id: row.id };
      return {
        event: { type: 'vault_credential.archived', facts },
        resources: [put],
        deleteResources: [{ kind: secretKind, id: row.id }],
        answer: shownRow(put),
      };
    }),
});
