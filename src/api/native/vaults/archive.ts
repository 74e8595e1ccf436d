import { secretKind } from '../../../guard/vault/sealed-secret.ts';
import { credentialsOf } from '../../../guard/vault/vault.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { vault } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { putOf, shownRow } from '../../rows.ts';
import { changeVault, vaultRow } from './act.ts';

/** With all its credentials; their secrets are destroyed. New sessions can not name it. */
export const archiveVault = operation({
  id: 'archiveVault',
  method: 'post',
  path: '/v1/vaults/{vault_id}/archive',
  tag: 'vaults',
  summary: 'Archive a vault with its credentials, and destroy their secrets',
  response: vault,
  problems: ['not_found', 'contended'],
  run: (call) =>
    changeVault(call, async ({ tenant, nowMs }) => {
      const row = await vaultRow(call);
      if (isProblem(row)) return row;
      if (row.archivedAt !== null) return { event: null, answer: shownRow(row) };
      const time = new Date(nowMs).toISOString();
      const credentials = await credentialsOf(call.deps.store, tenant, row.id);
      const life = { archivedAt: time, updatedAt: time, uniqueName: null };
      const put = putOf(row, life);
      const ids = credentials.map(({ id }) => id);
      return {
        event: { type: 'vault.archived', facts: { vault_id: row.id, credential_ids: ids } },
        resources: [put, ...credentials.map((one) => putOf(one, life))],
        deleteResources: ids.map((id) => ({ kind: secretKind, id })),
        answer: shownRow(put),
      };
    }),
});
