/**
 * A change of a vault: decided under the head of the organisation's stream, so that nothing that was deleted or archived
 * meanwhile comes back; one after the other in a process, so that its own changes do not wear each other out.
 *
 * - S1: the hash of a request that carries a secret is keyed before it is stored with an Idempotency-Key. A bare hash of
 *   a short secret could be guessed from the database.
 */
import type { Vault } from '../../../guard/vault/vault.ts';
import { vaultKind } from '../../../guard/vault/vault.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import type { Resource, Tenant } from '../../../store/store.ts';
import type { Answer, Call } from '../../operation.ts';
import type { Change } from '../../organization-act.ts';
import { changeOrganization } from '../../organization-act.ts';
import type { MintId } from '../../request-key.ts';

export type VaultAct = { vault: Vault; tenant: Tenant; mint: MintId; nowMs: number };

const noVault = problem('unavailable', 'This process keeps no vault.');

export async function changeVault(
  call: Call<unknown, unknown>,
  prepare: (act: VaultAct) => Promise<Change | Problem>,
): Promise<Answer> {
  const { vault, store } = call.deps;
  if (vault === undefined) return noVault;
  const { tenant } = call.principal;
  const hash = (text: string) => vault.derive('request', text).toString('hex');
  const key = call.key && {
    ...call.key,
    request: { key: call.key.request.key, hash: hash(call.key.request.hash) },
  };
  return vault.serially(tenant.organization, () =>
    changeOrganization({ deps: call.deps, principal: call.principal, key }, async (mint, nowMs) => {
      const head = (await store.stream(tenant, tenant.organization))?.head;
      const change = await prepare({ vault, tenant, mint, nowMs });
      return isProblem(change) || head === undefined ? change : { ...change, expectedSeq: head };
    }),
  );
}

export function vaultOf(call: Pick<Call<unknown, unknown>, 'deps'>): Vault | Problem {
  return call.deps.vault ?? noVault;
}

export async function vaultRow(
  call: Pick<Call<unknown, unknown>, 'deps' | 'principal' | 'params'>,
): Promise<Resource | Problem> {
  const id = call.params.vault_id ?? '';
  const row = await call.deps.store.resource(call.principal.tenant, vaultKind, id);
  return row ?? problem('not_found', `There is no vault ${id}.`);
}
