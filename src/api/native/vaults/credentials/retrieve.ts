import { isProblem } from '../../../../protocol/errors.ts';
import { vaultCredential } from '../../../../protocol/vaults.ts';
import { operation } from '../../../operation.ts';
import { shownRow } from '../../../rows.ts';
import { credentialRow } from './row.ts';

export const retrieveCredential = operation({
  id: 'retrieveVaultCredential',
  method: 'get',
  path: '/v1/vaults/{vault_id}/credentials/{credential_id}',
  tag: 'vaults',
  summary: 'Retrieve a credential, without its secrets',
  response: vaultCredential,
  problems: ['not_found'],
  async run(call) {
    const row = await credentialRow(call);
    return isProblem(row) ? row : { body: shownRow(row) };
  },
});
