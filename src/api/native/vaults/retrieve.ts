import { isProblem } from '../../../protocol/errors.ts';
import { vault } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { shownRow } from '../../rows.ts';
import { vaultRow } from './act.ts';

export const retrieveVault = operation({
  id: 'retrieveVault',
  method: 'get',
  path: '/v1/vaults/{vault_id}',
  tag: 'vaults',
  summary: 'Retrieve a vault',
  response: vault,
  problems: ['not_found'],
  async run(call) {
    const row = await vaultRow(call);
    return isProblem(row) ? row : { body: shownRow(row) };
  },
});
