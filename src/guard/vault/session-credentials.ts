/**
 * What a session gets of its vaults: environment variables with placeholders for the sandbox, and the secrets behind
 * them for the gateway.
 *
 * - S1: `env` and `unreachable` may go anywhere. `credentials` go to the gateway and to nobody else.
 * - L7: placeholders depend on the session, the credential and the shape of its first secret, so every engine that opens
 *   the session again says the same, whatever was rotated meanwhile.
 * - S4: a secret whose hosts nobody named is bound to none. Its variable is there, and stays a placeholder.
 */
import type { BoundCredential } from '../../gateway/policy.ts';
import type { Networking } from '../../protocol/environments.ts';
import type { CredentialAuth } from '../../protocol/vaults.ts';
import type { Resource, Tenant } from '../../store/store.ts';
import type { Shape } from './placeholder.ts';
import { placeholderOf, shapeOf } from './placeholder.ts';
import { hostsReachable } from './reach.ts';
import type { Vault } from './vault.ts';
import { credentialsOf, secretOf } from './vault.ts';

export type SessionVaults = {
  session: string;
  tenant: Tenant;
  /** As the session pinned them; the first vault that has a name wins. */
  vaultIds: readonly string[];
  /** Of the environment that the session pinned. */
  networking: Networking;
};

/** Of `session.error`'s payload (§5.8 of the protocol). */
export type Unreachable = {
  type: 'credential_host_unreachable_error';
  message: string;
  vault_id: string;
  credential_id: string;
};

export type SessionCredentials = {
  /** Name of the variable → placeholder. */
  env: Record<string, string>;
  credentials: BoundCredential[];
  unreachable: Unreachable[];
};

type Variable = Extract<CredentialAuth, { type: 'environment_variable' }>;

/**
 * Asked again at will: what was archived or deleted is gone then, what was replaced is new, placeholders stay. Rejects
 * with `KekUnavailable` where the vault can not be opened now.
 */
export async function resolveForSession(vault: Vault, request: SessionVaults): Promise<SessionCredentials> {
  const resolved: SessionCredentials = { env: {}, credentials: [], unreachable: [] };
  for (const vaultId of request.vaultIds) {
    const rows = await credentialsOf(vault.store, request.tenant, vaultId);
    // By id, which is by age: the same order for everyone.
    for (const row of rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))) {
      const auth = row.body.auth as unknown as CredentialAuth;
      if (auth.type !== 'environment_variable' || Object.hasOwn(resolved.env, auth.secret_name)) continue;
      await resolveOne(vault, request, { row, auth, vaultId }, resolved);
    }
  }
  return resolved;
}

async function resolveOne(
  vault: Vault,
  { session, tenant, networking }: SessionVaults,
  { row, auth, vaultId }: { row: Resource; auth: Variable; vaultId: string },
  resolved: SessionCredentials,
): Promise<void> {
  const live = await secretOf(vault, tenant, { vaultId, id: row.id });
  // Archived or deleted between the two reads.
  if (live?.fields.secret_value === undefined) return;
  const { secret_value: secret, shape: stored } = live.fields;
  const shape = stored === undefined ? shapeOf(secret) : (JSON.parse(stored) as Shape);
  const placeholder = placeholderOf(shape, (block) =>
    vault.derive('placeholder', JSON.stringify([session, row.id, block])),
  );
  resolved.env[auth.secret_name] = placeholder;
  const reach = hostsReachable(auth.networking, networking);
  if ('refused' in reach) {
    const message = `${auth.secret_name}: ${reach.refused}`;
    const place = { vault_id: vaultId, credential_id: row.id };
    resolved.unreachable.push({ type: 'credential_host_unreachable_error', message, ...place });
    return;
  }
  resolved.credentials.push({ id: row.id, placeholder, secret, hosts: reach.hosts });
}
