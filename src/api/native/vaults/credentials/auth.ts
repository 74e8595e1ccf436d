/**
 * The two halves of a credential's `auth`: what is shown and what is sealed. Pure.
 *
 * - S1: a secret goes from the params into `fields` and nowhere else; no message quotes a value.
 */
import { shapeOf } from '../../../../guard/vault/placeholder.ts';
import type { SecretFields } from '../../../../guard/vault/sealed-secret.ts';
import type { Problem } from '../../../../protocol/errors.ts';
import { problem } from '../../../../protocol/errors.ts';
import type { CreateAuth, CredentialAuth, UpdateAuth } from '../../../../protocol/vaults.ts';

export type AuthHalves = { auth: CredentialAuth; fields: SecretFields };

type Injection = { header?: boolean | undefined; body?: false | undefined };
type OAuth = Extract<CredentialAuth, { type: 'mcp_oauth' }>;
type OAuthUpdate = Extract<UpdateAuth, { type: 'mcp_oauth' }>;

/** What events may say of it. */
export function factsOf(auth: CredentialAuth) {
  return auth.type === 'environment_variable'
    ? { auth_type: auth.type, secret_name: auth.secret_name, networking: auth.networking }
    : { auth_type: auth.type, mcp_server_url: auth.mcp_server_url };
}

export function createdAuth(params: CreateAuth, nowMs: number): AuthHalves | Problem {
  switch (params.type) {
    case 'static_bearer': {
      const { token, ...auth } = params;
      return { auth, fields: { token } };
    }
    case 'environment_variable': {
      const { secret_value, injection_location, ...rest } = params;
      const location = located(injection_location ?? { header: true });
      if (location === null) return nowhere;
      const shape = JSON.stringify(shapeOf(secret_value));
      return { auth: { ...rest, injection_location: location }, fields: { secret_value, shape } };
    }
    case 'mcp_oauth': {
      const expired = expiredProblem(params.expires_at, nowMs);
      if (expired) return expired;
      const { access_token, refresh } = params;
      const auth: OAuth = {
        type: 'mcp_oauth',
        mcp_server_url: params.mcp_server_url,
        expires_at: params.expires_at ?? null,
        refresh: refresh
          ? {
              client_id: refresh.client_id,
              token_endpoint: refresh.token_endpoint,
              token_endpoint_auth: { type: refresh.token_endpoint_auth.type },
              resource: refresh.resource ?? null,
              scope: refresh.scope ?? null,
            }
          : null,
      };
      if (!refresh) return { auth, fields: { access_token } };
      const { refresh_token, token_endpoint_auth: client } = refresh;
      const secret = client.type === 'none' ? {} : { client_secret: client.client_secret };
      return { auth, fields: { access_token, refresh_token, ...secret } };
    }
  }
}

/** `fields` holds only what was replaced. */
export function updatedAuth(before: CredentialAuth, params: UpdateAuth, nowMs: number): AuthHalves | Problem {
  if (params.type === 'environment_variable' && before.type === params.type) {
    const { networking, injection_location, secret_value } = params;
    const location = located({ ...before.injection_location, ...injection_location } as Injection);
    if (location === null) return nowhere;
    const auth = {
      ...before,
      networking: networking ?? before.networking,
      injection_location: location,
    };
    return { auth, fields: secret_value == null ? {} : { secret_value } };
  }
  if (params.type === 'static_bearer' && before.type === params.type)
    return { auth: before, fields: params.token == null ? {} : { token: params.token } };
  if (params.type === 'mcp_oauth' && before.type === params.type) return updatedOAuth(before, params, nowMs);
  return problem(
    'invalid_request',
    `auth.type: can not be changed; this credential is ${before.type}. Create a new credential.`,
  );
}

function updatedOAuth(before: OAuth, params: OAuthUpdate, nowMs: number): AuthHalves | Problem {
  const expired = expiredProblem(params.expires_at, nowMs);
  if (expired) return expired;
  const { access_token, refresh } = params;
  // An expiry speaks of the token it came with.
  const kept = access_token == null ? before.expires_at : null;
  const expires_at = params.expires_at === undefined ? kept : params.expires_at;
  const token = access_token == null ? {} : { access_token };
  if (refresh == null) return { auth: { ...before, expires_at }, fields: token };
  if (before.refresh === null)
    return problem('invalid_request', 'auth.refresh: this credential has none. Create a new credential.');
  const client = refresh.token_endpoint_auth;
  if (client != null && client.type !== before.refresh.token_endpoint_auth.type)
    return problem('invalid_request', 'auth.refresh.token_endpoint_auth.type: can not be changed');
  const scope = refresh.scope == null ? before.refresh.scope : refresh.scope || null;
  return {
    auth: { ...before, expires_at, refresh: { ...before.refresh, scope } },
    fields: {
      ...token,
      ...(refresh.refresh_token == null ? {} : { refresh_token: refresh.refresh_token }),
      ...(client?.client_secret == null ? {} : { client_secret: client.client_secret }),
    },
  };
}

function expiredProblem(expiresAt: string | null | undefined, nowMs: number): Problem | null {
  return expiresAt != null && Date.parse(expiresAt) <= nowMs
    ? problem('invalid_request', 'auth.expires_at: must be in the future')
    : null;
}

const nowhere = problem(
  'invalid_request',
  'auth.injection_location: a secret that is put nowhere is of no use; send {"header": true}',
);

/** What is left out of an object is false; a secret has to go somewhere. */
function located({ header = false }: Injection): { header: boolean; body: boolean } | null {
  return header ? { header, body: false } : null;
}
