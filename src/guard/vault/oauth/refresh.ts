/**
 * A new access token for an OAuth credential, asked for once: by one caller of one process at a time.
 *
 * - Within a process callers share one flight. Between processes a lease in the secret's row, written under the head of
 *   the organisation's stream, says whose turn it is; the others wait for what is stored.
 * - What is stored counts: a refresh token is read after the lease was taken and its successor is stored under that
 *   same lease, so a token that is known to have been replaced is never sent again.
 * - A holder that died, or an answer that was lost, leaves it unknown whether the token was replaced. Then the one that
 *   is stored is sent again: there is no other, and the server's "no" to it is an answer too.
 * - S1: events and errors carry status codes, never values.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../../../protocol/json.ts';
import type { CredentialAuth, HttpResponse } from '../../../protocol/vaults.ts';
import type { Resource, ResourcePut, Tenant } from '../../../store/store.ts';
import { record } from '../record.ts';
import type { RefreshFailure, SecretBody, SecretFields } from '../sealed-secret.ts';
import { sealSecret, secretKind, secretPut } from '../sealed-secret.ts';
import type { Vault } from '../vault.ts';
import { credentialKind, placeOf, secretOf } from '../vault.ts';
import type { TokenAnswer } from './token-endpoint.ts';
import { askForToken } from './token-endpoint.ts';

export type OAuth = Extract<CredentialAuth, { type: 'mcp_oauth' }>;
export type CredentialPlace = { tenant: Tenant; vaultId: string; id: string };

export type RefreshEnding =
  | { kind: 'token'; token: string; expiresAt: string | null; shown: HttpResponse | null }
  | { kind: 'failed'; message: string; isAnswered: boolean; shown: HttpResponse | null }
  /** Archived, deleted, or without a refresh token. */
  | { kind: 'none' };

/** Longer than any answer may take (outbound.ts), so a holder that lives still has it when it stores. */
const leaseMs = 60_000;
const pollMs = 150;
/** A token is renewed so long before it ends. */
export const earlyMs = 60_000;
const pauseAfterFailureMs = 30_000;
const actor = 'system:vault';

export async function refresh(
  vault: Vault,
  place: CredentialPlace,
  isForced = false,
): Promise<RefreshEnding> {
  const key = JSON.stringify([place.tenant.organization, place.tenant.project, place.vaultId, place.id]);
  const flight = vault.refreshing.get(key);
  if (flight !== undefined) return flight;
  const mine = refreshAcross(vault, place, isForced).finally(() => vault.refreshing.delete(key));
  vault.refreshing.set(key, mine);
  return mine;
}

async function refreshAcross(
  vault: Vault,
  place: CredentialPlace,
  isForced: boolean,
): Promise<RefreshEnding> {
  for (let waitedMs = 0; ; waitedMs += pollMs) {
    // Who waited for another takes what that one got, forced or not.
    const turn = await takeTurn(vault, place, isForced && waitedMs === 0);
    switch (turn.kind) {
      case 'ended':
        return turn.ending;
      case 'mine':
        return settle(vault, place, turn, await askForToken(vault.outbound, turn.refresh, turn.fields));
      case 'held':
        if (waitedMs > leaseMs) return busy;
        await sleep(pollMs);
    }
  }
}

const busy: RefreshEnding = {
  kind: 'failed',
  message: 'another process is refreshing this token',
  isAnswered: false,
  shown: null,
};

type Mine = {
  kind: 'mine';
  leaseId: string;
  fields: SecretFields;
  refresh: NonNullable<OAuth['refresh']>;
};
type Turn = Mine | { kind: 'held' } | { kind: 'ended'; ending: RefreshEnding };

const ended = (ending: RefreshEnding) => ({ type: null, value: { kind: 'ended', ending } as Turn }) as const;

function takeTurn(vault: Vault, place: CredentialPlace, isForced: boolean): Promise<Turn> {
  return record<Turn>(vault, { tenant: place.tenant, actor }, async () => {
    const live = await read(vault, place);
    if (live === null || live.auth.refresh === null) return ended({ kind: 'none' });
    const { auth, fields, body } = live;
    const nowMs = vault.nowMs();
    if (!isForced && isFresh(auth, nowMs)) {
      return ended({
        kind: 'token',
        token: fields.access_token ?? '',
        expiresAt: auth.expires_at,
        shown: null,
      });
    }
    if (!isForced && body.failure && (body.failure.retryAtMs ?? Infinity) > nowMs) {
      const { message } = body.failure;
      return ended({ kind: 'failed', message, isAnswered: true, shown: null });
    }
    if (body.lease && body.lease.untilMs > nowMs) return { type: null, value: { kind: 'held' } };
    const leaseId = randomUUID();
    const leased = { ...body, lease: { id: leaseId, untilMs: nowMs + leaseMs } };
    return {
      type: 'vault_credential.refresh_started',
      facts: factsOf(place),
      ...replaced(live, leased),
      value: { kind: 'mine', leaseId, fields, refresh: auth.refresh as Mine['refresh'] },
    };
  });
}

/** Stores what the endpoint said, unless the lease is another's by now: then what that one stored counts. */
function settle(
  vault: Vault,
  place: CredentialPlace,
  turn: Mine,
  answer: TokenAnswer,
): Promise<RefreshEnding> {
  return record<RefreshEnding>(vault, { tenant: place.tenant, actor }, async () => {
    const live = await read(vault, place);
    if (live === null) return { type: null, value: { kind: 'none' } };
    if (live.body.lease?.id !== turn.leaseId) return { type: null, value: busy };
    if (answer.kind !== 'token') return failed(vault, place, live, answer);
    const nowMs = vault.nowMs();
    const expiresAt = answer.expiresInMs === null ? null : new Date(nowMs + answer.expiresInMs).toISOString();
    const { accessToken, refreshToken, shown } = answer;
    const fields = {
      ...live.fields,
      access_token: accessToken,
      ...(refreshToken === null ? {} : { refresh_token: refreshToken }),
    };
    const body = await sealSecret(vault.kek, placeOf(place.tenant, place), fields);
    const { organization: _organization, project: _project, ...row } = live.row;
    const put: ResourcePut = {
      ...row,
      version: row.version + 1,
      body: { ...row.body, auth: { ...live.auth, expires_at: expiresAt } as unknown as JsonObject },
      updatedAt: new Date(nowMs).toISOString(),
    };
    const change = replaced(live, body);
    return {
      type: 'vault_credential.refreshed',
      facts: { ...factsOf(place), is_rotated: refreshToken !== null, expires_at: expiresAt },
      deleteResources: change.deleteResources,
      resources: [...change.resources, put],
      value: { kind: 'token', token: accessToken, expiresAt, shown },
    };
  });
}

function failed(
  vault: Vault,
  place: CredentialPlace,
  live: Live,
  { kind, message, shown }: Exclude<TokenAnswer, { kind: 'token' }>,
) {
  const retryAtMs = kind === 'refused' ? null : vault.nowMs() + pauseAfterFailureMs;
  const failure: RefreshFailure = { message, retryAtMs };
  return {
    type: 'vault_credential.refresh_failed',
    facts: { ...factsOf(place), message, will_retry: retryAtMs !== null },
    ...replaced(live, { ...live.body, lease: null, failure }),
    value: { kind: 'failed' as const, message, isAnswered: shown !== null, shown },
  };
}

type Live = { row: Resource; auth: OAuth; fields: SecretFields; body: SecretBody };

async function read(vault: Vault, { tenant, vaultId, id }: CredentialPlace): Promise<Live | null> {
  const row = await vault.store.resource(tenant, credentialKind(vaultId), id);
  const auth = row?.body.auth as unknown as CredentialAuth | undefined;
  if (!row || row.archivedAt !== null || auth?.type !== 'mcp_oauth') return null;
  const secret = await secretOf(vault, tenant, { vaultId, id });
  return secret && { row, auth, ...secret };
}

/** The secret's row anew: it has no history. */
function replaced({ row }: Live, body: SecretBody) {
  return {
    resources: [secretPut(row.id, body, row.createdAt)],
    deleteResources: [{ kind: secretKind, id: row.id }],
  };
}

/** One without an expiry lasts until somebody says otherwise. */
export function isFresh({ expires_at }: OAuth, nowMs: number): boolean {
  return expires_at === null || Date.parse(expires_at) > nowMs + earlyMs;
}

function factsOf({ vaultId, id }: CredentialPlace): JsonObject {
  return { vault_id: vaultId, credential_id: id };
}
