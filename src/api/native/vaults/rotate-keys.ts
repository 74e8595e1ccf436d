import { rotateKeys } from '../../../guard/vault/rotate.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { vaultKeyRotation } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { vaultOf } from './act.ts';

/** Ours. Asked twice it rotates twice, which harms nothing. */
export const rotateVaultKeys = operation({
  id: 'rotateVaultKeys',
  method: 'post',
  path: '/v1/vault_keys/rotate',
  tag: 'vaults',
  summary: 'Make a newer key-encryption key and wrap every data key with it; secrets are not opened',
  response: vaultKeyRotation,
  async run(call) {
    const vault = vaultOf(call);
    if (isProblem(vault)) return vault;
    const { tenant, actor } = call.principal;
    const { keyId, ...counts } = await rotateKeys(vault, { tenant, actor });
    return { body: { type: 'vault_key_rotation', key_id: keyId, ...counts } };
  },
});
