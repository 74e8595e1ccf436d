import { validate } from '../../../../guard/vault/oauth/validate.ts';
import { isProblem, problem } from '../../../../protocol/errors.ts';
import type { JsonObject } from '../../../../protocol/json.ts';
import { credentialValidation } from '../../../../protocol/vaults.ts';
import { operation } from '../../../operation.ts';
import { vaultOf } from '../act.ts';
import { authOf, credentialRow } from './row.ts';

export const validateCredential = operation({
  id: 'validateVaultCredential',
  method: 'post',
  path: '/v1/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate',
  tag: 'vaults',
  summary: 'Try an OAuth credential at its server, refreshing it where that is needed',
  response: credentialValidation,
  problems: ['not_found'],
  async run(call) {
    const vault = vaultOf(call);
    if (isProblem(vault)) return vault;
    const row = await credentialRow(call);
    if (isProblem(row)) return row;
    const auth = authOf(row);
    if (auth.type !== 'mcp_oauth')
      return problem('invalid_request', `This credential is ${auth.type}; only mcp_oauth can be validated.`);
    const vaultId = String(row.body.vault_id);
    const result = await validate(vault, { tenant: call.principal.tenant, vaultId, id: row.id }, auth);
    if (result === null)
      return problem('invalid_request', 'This credential is archived; its secret is destroyed.');
    const body = {
      type: 'vault_credential_validation',
      vault_id: vaultId,
      credential_id: row.id,
      validated_at: new Date(call.deps.now()).toISOString(),
      ...result,
    };
    return { body: body as JsonObject };
  },
});
