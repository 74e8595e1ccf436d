/** A live probe of an OAuth credential: whether its server takes the token, after a refresh if that is what it needs. */
import type { CredentialValidation, HttpResponse } from '../../../protocol/vaults.ts';
import type { SecretFields } from '../sealed-secret.ts';
import type { Vault } from '../vault.ts';
import { secretOf } from '../vault.ts';
import type { OutboundAnswer } from './outbound.ts';
import type { CredentialPlace, OAuth, RefreshEnding } from './refresh.ts';
import { isFresh, refresh } from './refresh.ts';
import { shownResponse } from './scrub.ts';

export type Validation = Pick<CredentialValidation, 'has_refresh_token' | 'status' | 'mcp_probe' | 'refresh'>;

const method = 'initialize';

/** Null where the credential has no secret any more. What is shown of answers is scrubbed (S1). */
export async function validate(
  vault: Vault,
  place: CredentialPlace,
  auth: OAuth,
): Promise<Validation | null> {
  const secret = await secretOf(vault, place.tenant, place);
  if (secret === null) return null;
  const has_refresh_token = auth.refresh !== null;
  const { fields } = secret;
  let refreshed: RefreshEnding | null = null;
  let probe: Probe | null = null;
  if (isFresh(auth, vault.nowMs()) || !has_refresh_token) {
    probe = await ask(vault, auth, fields, fields.access_token ?? '');
    if (probe.verdict !== 'invalid') return { has_refresh_token, ...shownProbe(probe), refresh: null };
  }
  if (has_refresh_token) refreshed = await refresh(vault, place, true);
  if (refreshed?.kind === 'token') probe = await ask(vault, auth, fields, refreshed.token);
  const { mcp_probe, status } = shownProbe(probe);
  const isUnknown = refreshed?.kind === 'failed' && !refreshed.isAnswered;
  return {
    has_refresh_token,
    mcp_probe,
    status: isUnknown ? 'unknown' : status,
    refresh: shownRefresh(refreshed),
  };
}

function shownRefresh(ending: RefreshEnding | null): CredentialValidation['refresh'] {
  if (ending === null || ending.kind === 'none') return { status: 'no_refresh_token', http_response: null };
  if (ending.kind === 'token') return { status: 'succeeded', http_response: ending.shown };
  return { status: ending.isAnswered ? 'failed' : 'connect_error', http_response: ending.shown };
}

type Probe = { verdict: CredentialValidation['status']; shown: HttpResponse | null };

function shownProbe(probe: Probe | null): Pick<Validation, 'status' | 'mcp_probe'> {
  if (probe === null) return { status: 'invalid', mcp_probe: null };
  return { status: probe.verdict, mcp_probe: { method, http_response: probe.shown } };
}

async function ask(vault: Vault, auth: OAuth, fields: SecretFields, token: string): Promise<Probe> {
  const answer = await vault.outbound({
    url: auth.mcp_server_url,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method,
      params: {
        protocolVersion: '2025-06-18',
        capabilities: {},
        clientInfo: { name: 'scriptorium', version: '1' },
      },
    }),
  });
  if (answer.kind !== 'response') return { verdict: 'unknown', shown: null };
  return { verdict: verdictOf(answer), shown: shownResponse(answer, [...Object.values(fields), token]) };
}

function verdictOf({ status }: Extract<OutboundAnswer, { kind: 'response' }>): Probe['verdict'] {
  if (status >= 200 && status < 300) return 'valid';
  return status === 401 || status === 403 ? 'invalid' : 'unknown';
}
