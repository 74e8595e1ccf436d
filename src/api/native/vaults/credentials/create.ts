import { sealSecret, secretPut } from '../../../../guard/vault/sealed-secret.ts';
import { credentialKind, credentialsOf, placeOf } from '../../../../guard/vault/vault.ts';
import { isProblem, problem } from '../../../../protocol/errors.ts';
import type { JsonObject } from '../../../../protocol/json.ts';
import {
  credentialCreateParams,
  credentialKeyOf,
  maxCredentials,
  vaultCredential,
} from '../../../../protocol/vaults.ts';
import { operation } from '../../../operation.ts';
import { shownRow } from '../../../rows.ts';
import { changeVault, vaultRow } from '../act.ts';
import { createdAuth, factsOf } from './auth.ts';

export const createCredential = operation({
  id: 'createVaultCredential',
  method: 'post',
  path: '/v1/vaults/{vault_id}/credentials',
  tag: 'vaults',
  summary: 'Put a credential into a vault; its secrets are never shown again',
  body: credentialCreateParams,
  response: vaultCredential,
  problems: ['not_found', 'conflict', 'not_supported', 'invalid_metadata', 'contended'],
  run: (call) =>
    changeVault(call, async ({ vault, tenant, mint, nowMs }) => {
      const owner = await vaultRow(call);
      if (isProblem(owner)) return owner;
      if (owner.archivedAt !== null)
        return problem('invalid_request', 'This vault is archived and takes no credentials.');
      const halves = createdAuth(call.body.auth, nowMs);
      if (isProblem(halves)) return halves;
      const uniqueName = credentialKeyOf(halves.auth);
      const active = await credentialsOf(call.deps.store, tenant, owner.id);
      if (active.some((row) => row.uniqueName === uniqueName)) return taken;
      if (active.length >= maxCredentials)
        return problem('invalid_request', `A vault holds at most ${maxCredentials} credentials.`);
      const id = mint('vaultCredential', 'credential');
      const time = new Date(nowMs).toISOString();
      const body = {
        type: 'vault_credential',
        id,
        vault_id: owner.id,
        display_name: call.body.display_name ?? null,
        metadata: call.body.metadata ?? {},
        auth: halves.auth,
      } as JsonObject;
      const life = { createdAt: time, updatedAt: time, archivedAt: null };
      const row = { kind: credentialKind(owner.id), id, version: 1, body, ...life, uniqueName };
      const place = placeOf(tenant, { vaultId: owner.id, id });
      const secret = await sealSecret(vault.kek, place, halves.fields);
      const facts = { vault_id: owner.id, credential_id: id, ...factsOf(halves.auth) } as JsonObject;
      return {
        event: { type: 'vault_credential.created', facts },
        resources: [row, secretPut(id, secret, time)],
        answer: shownRow(row),
      };
    }),
});

const taken = problem(
  'conflict',
  'auth: this vault has an active credential for the same server or variable. Update or archive that one.',
);
