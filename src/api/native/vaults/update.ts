import { isProblem, problem } from '../../../protocol/errors.ts';
import { maxMetadataPairs, patchMetadata } from '../../../protocol/fields.ts';
import { canonicalJson } from '../../../protocol/json.ts';
import { vault, vaultUpdateParams } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { putOf, shownRow } from '../../rows.ts';
import { changeVault, vaultRow } from './act.ts';

export const updateVault = operation({
  id: 'updateVault',
  method: 'post',
  path: '/v1/vaults/{vault_id}',
  tag: 'vaults',
  summary: 'Update a vault',
  body: vaultUpdateParams,
  response: vault,
  problems: ['not_found', 'invalid_metadata', 'contended'],
  run: (call) =>
    changeVault(call, async ({ nowMs }) => {
      const row = await vaultRow(call);
      if (isProblem(row)) return row;
      if (row.archivedAt !== null)
        return problem('invalid_request', 'This vault is archived and can not be changed.');
      const metadata = patchMetadata(row.body.metadata as Record<string, string>, call.body.metadata ?? {});
      if (Object.keys(metadata).length > maxMetadataPairs)
        return problem('invalid_metadata', `metadata: at most ${maxMetadataPairs} pairs`);
      const display_name = call.body.display_name ?? String(row.body.display_name);
      const body = { ...row.body, display_name, metadata };
      if (canonicalJson(body) === canonicalJson(row.body)) return { event: null, answer: shownRow(row) };
      const put = putOf(row, { version: row.version + 1, body, updatedAt: new Date(nowMs).toISOString() });
      return {
        event: { type: 'vault.updated', facts: { vault_id: row.id, display_name } },
        resources: [put],
        answer: shownRow(put),
      };
    }),
});
