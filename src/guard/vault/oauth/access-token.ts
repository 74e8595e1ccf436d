/**
 * The bearer token for an MCP server, from the vaults of a session. For the control plane alone: it never enters a
 * sandbox, a log or an error (S1).
 */
import type { CredentialAuth } from '../../../protocol/vaults.ts';
import { serverKeyOf } from '../../../protocol/vaults.ts';
import type { Resource, Tenant } from '../../../store/store.ts';
import type { Vault } from '../vault.ts';
import { credentialsOf, secretOf } from '../vault.ts';
import { isFresh, refresh } from './refresh.ts';

export type AccessToken =
  | { kind: 'token'; token: string; vaultId: string; credentialId: string }
  /** No credential for this server: it is tried without. */
  | { kind: 'none' }
  /** There is one, and it can not be used; `message` may be shown. */
  | { kind: 'failed'; message: string; vaultId: string; credentialId: string };

/**
 * The first vault in order that has a credential for the server decides, whether it can be used or not: another vault's
 * would be another identity. Rejects with `KekUnavailable` where the vault can not be opened now.
 */
export async function accessTokenFor(
  vault: Vault,
  tenant: Tenant,
  vaultIds: readonly string[],
  mcpServerUrl: string,
): Promise<AccessToken> {
  if (!URL.canParse(mcpServerUrl)) return { kind: 'none' };
  const wanted = serverKeyOf(mcpServerUrl);
  for (const vaultId of vaultIds) {
    const rows = await credentialsOf(vault.store, tenant, vaultId);
    const row = rows.find(({ uniqueName }) => uniqueName === wanted);
    if (row) return tokenOf(vault, tenant, vaultId, row);
  }
  return { kind: 'none' };
}

async function tokenOf(vault: Vault, tenant: Tenant, vaultId: string, row: Resource): Promise<AccessToken> {
  const place = { vaultId, credentialId: row.id };
  const auth = row.body.auth as unknown as CredentialAuth;
  const secret = await secretOf(vault, tenant, { vaultId, id: row.id });
  if (secret === null || auth.type === 'environment_variable') return { kind: 'none' };
  const { token, access_token } = secret.fields;
  if (auth.type === 'static_bearer') return { kind: 'token', token: token ?? '', ...place };
  if (isFresh(auth, vault.nowMs())) return { kind: 'token', token: access_token ?? '', ...place };
  const isOver = Date.parse(auth.expires_at ?? '') <= vault.nowMs();
  const ending = auth.refresh === null ? null : await refresh(vault, { tenant, vaultId, id: row.id });
  if (ending?.kind === 'token') return { kind: 'token', token: ending.token, ...place };
  // Near its end, not at it: it is good for this once.
  if (!isOver) return { kind: 'token', token: access_token ?? '', ...place };
  if (ending?.kind === 'failed') return { kind: 'failed', message: ending.message, ...place };
  return { kind: 'failed', message: 'the access token has expired and there is no refresh token', ...place };
}
