import { sealSecret, secretKind, secretPut } from '../../../../guard/vault/sealed-secret.ts';
import { placeOf, secretOf } from '../../../../guard/vault/vault.ts';
import type { Problem } from '../../../../protocol/errors.ts';
import { isProblem, problem } from '../../../../protocol/errors.ts';
import { maxMetadataPairs, patchMetadata } from '../../../../protocol/fields.ts';
import type { JsonObject } from '../../../../protocol/json.ts';
import { canonicalJson } from '../../../../protocol/json.ts';
import { credentialUpdateParams, vaultCredential } from '../../../../protocol/vaults.ts';
import type { Resource } from '../../../../store/store.ts';
import { operation } from '../../../operation.ts';
import type { Change } from '../../../organization-act.ts';
import { putOf, shownRow } from '../../../rows.ts';
import type { VaultAct } from '../act.ts';
import { changeVault } from '../act.ts';
import type { AuthHalves } from './auth.ts';
import { factsOf, updatedAuth } from './auth.ts';
import { authOf, credentialRow } from './row.ts';

export const updateCredential = operation({
  id: 'updateVaultCredential',
  method: 'post',
  path: '/v1/vaults/{vault_id}/credentials/{credential_id}',
  tag: 'vaults',
  summary: 'Update a credential; what is left out stays, secrets included',
  body: credentialUpdateParams,
  response: vaultCredential,
  problems: ['not_found', 'not_supported', 'invalid_metadata', 'contended'],
  run: (call) =>
    changeVault(call, async (act) => {
      const row = await credentialRow(call);
      if (isProblem(row)) return row;
      if (row.archivedAt !== null)
        return problem('invalid_request', 'This credential is archived and can not be changed.');
      const { auth, display_name, metadata: patch } = call.body;
      const before = authOf(row);
      const halves = auth == null ? { auth: before, fields: {} } : updatedAuth(before, auth, act.nowMs);
      if (isProblem(halves)) return halves;
      const metadata = patchMetadata(row.body.metadata as Record<string, string>, patch ?? {});
      if (Object.keys(metadata).length > maxMetadataPairs)
        return problem('invalid_metadata', `metadata: at most ${maxMetadataPairs} pairs`);
      const name = display_name === undefined ? (row.body.display_name ?? null) : display_name;
      const body = { ...row.body, display_name: name, metadata, auth: halves.auth } as JsonObject;
      return changeTo(act, row, body, halves);
    }),
});

async function changeTo(
  { vault, tenant, nowMs }: VaultAct,
  row: Resource,
  body: JsonObject,
  { auth, fields }: AuthHalves,
): Promise<Change | Problem> {
  const replaced = Object.keys(fields);
  if (replaced.length === 0 && canonicalJson(body) === canonicalJson(row.body))
    return { event: null, answer: shownRow(row) };
  const time = new Date(nowMs).toISOString();
  const put = putOf(row, { version: row.version + 1, body, updatedAt: time });
  const vaultId = String(row.body.vault_id);
  const facts = { vault_id: vaultId, credential_id: row.id, ...factsOf(auth), replaced } as JsonObject;
  const change = { event: { type: 'vault_credential.updated', facts }, answer: shownRow(put) };
  if (replaced.length === 0) return { ...change, resources: [put] };
  const place = { vaultId, id: row.id };
  const secret = await secretOf(vault, tenant, place);
  const sealed = await sealSecret(vault.kek, placeOf(tenant, place), { ...secret?.fields, ...fields });
  // A refresh under way may go on to store what it gets, unless it would store the successor of what was replaced.
  const lease = fields.refresh_token === undefined ? (secret?.body.lease ?? null) : null;
  return {
    ...change,
    resources: [put, secretPut(row.id, { ...sealed, lease }, time)],
    deleteResources: [{ kind: secretKind, id: row.id }],
  };
}
