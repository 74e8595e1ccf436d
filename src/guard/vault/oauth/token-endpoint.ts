/**
 * One request to a token endpoint (RFC 6749 §6) and what its answer means. Nothing of an answer is believed before it was
 * looked at, and none of its text is in a message (S1).
 */
import { z } from 'zod';
import type { CredentialAuth, HttpResponse } from '../../../protocol/vaults.ts';
import type { SecretFields } from '../sealed-secret.ts';
import type { Outbound, OutboundRequest } from './outbound.ts';
import { shownResponse } from './scrub.ts';

export type Refresh = NonNullable<Extract<CredentialAuth, { type: 'mcp_oauth' }>['refresh']>;

export type TokenAnswer =
  | {
      kind: 'token';
      accessToken: string;
      /** Null: the old one goes on. */
      refreshToken: string | null;
      expiresInMs: number | null;
      shown: HttpResponse;
    }
  /** It said no, and will say so again. */
  | { kind: 'refused'; message: string; shown: HttpResponse | null }
  /** It could not, or said what nobody understands; another time perhaps. `shown` is null where it said nothing. */
  | { kind: 'failed'; message: string; shown: HttpResponse | null };

const token = z
  .string()
  .min(1)
  .max(16_384)
  .regex(/^[\x21-\x7e]+$/);

const success = z.looseObject({
  access_token: token,
  token_type: z
    .string()
    .regex(/^bearer$/i)
    .optional(),
  refresh_token: token.nullish(),
  expires_in: z.coerce
    .number()
    .min(0)
    .max(10 ** 9)
    .nullish(),
});

export async function askForToken(
  send: Outbound,
  refresh: Refresh,
  fields: SecretFields,
): Promise<TokenAnswer> {
  const request = requestOf(refresh, fields);
  const answer = await send(request);
  if (answer.kind !== 'response')
    return { kind: 'failed', message: `the token endpoint: ${answer.message}`, shown: null };
  const basic = request.headers.authorization?.split(' ')[1];
  const sent = [...Object.values(fields), ...(basic ? [basic] : [])];
  const shown = shownResponse(answer, sent);
  const said = parsed(answer.body);
  if (answer.status !== 200) {
    const message = `the token endpoint answered ${answer.status}${errorCodeOf(said)}`;
    const isFinal = answer.status >= 400 && answer.status < 500 && ![408, 425, 429].includes(answer.status);
    return { kind: isFinal ? 'refused' : 'failed', message, shown };
  }
  const result = success.safeParse(said);
  if (!result.success)
    return { kind: 'failed', message: 'the token endpoint answered without a bearer token', shown };
  const { access_token, refresh_token, expires_in } = result.data;
  return {
    kind: 'token',
    accessToken: access_token,
    refreshToken: refresh_token ?? null,
    expiresInMs: expires_in == null ? null : expires_in * 1000,
    shown: shownResponse(answer, [...sent, access_token, refresh_token ?? '']),
  };
}

function requestOf(refresh: Refresh, fields: SecretFields): OutboundRequest {
  const { client_id, token_endpoint_auth: client, scope, resource } = refresh;
  const secret = fields.client_secret ?? '';
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    refresh_token: fields.refresh_token ?? '',
    ...(client.type === 'client_secret_basic' ? {} : { client_id }),
    ...(client.type === 'client_secret_post' ? { client_secret: secret } : {}),
    ...(scope ? { scope } : {}),
    ...(resource ? { resource } : {}),
  });
  const basic = Buffer.from(`${formEncoded(client_id)}:${formEncoded(secret)}`).toString('base64');
  return {
    url: refresh.token_endpoint,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      accept: 'application/json',
      ...(client.type === 'client_secret_basic' ? { authorization: `Basic ${basic}` } : {}),
    },
    body: form.toString(),
  };
}

/** RFC 6749 §2.3.1: both halves are form-encoded before they are joined. */
function formEncoded(text: string): string {
  return new URLSearchParams({ s: text }).toString().slice(2);
}

const knownErrors = [
  'invalid_request',
  'invalid_client',
  'invalid_grant',
  'unauthorized_client',
  'unsupported_grant_type',
  'invalid_scope',
  'invalid_target',
];

function errorCodeOf(said: unknown): string {
  const code = (said as { error?: unknown } | null)?.error;
  return typeof code === 'string' && knownErrors.includes(code) ? ` (${code})` : '';
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}
