import { vaultKind } from '../../../guard/vault/vault.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { vault, vaultCreateParams } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { shownRow } from '../../rows.ts';
import { changeVault } from './act.ts';

export const createVault = operation({
  id: 'createVault',
  method: 'post',
  path: '/v1/vaults',
  tag: 'vaults',
  summary: 'Create a vault',
  body: vaultCreateParams,
  response: vault,
  problems: ['invalid_metadata', 'contended'],
  run: (call) =>
    changeVault(call, async ({ mint, nowMs }) => {
      const id = mint('vault', 'vault');
      const time = new Date(nowMs).toISOString();
      const { display_name, metadata } = call.body;
      const body: JsonObject = { type: 'vault', id, display_name, metadata: metadata ?? {} };
      const life = { createdAt: time, updatedAt: time, archivedAt: null, uniqueName: null };
      const row = { kind: vaultKind, id, version: 1, body, ...life };
      return {
        event: { type: 'vault.created', facts: { vault_id: id, display_name } },
        resources: [row],
        answer: shownRow(row),
      };
    }),
});
