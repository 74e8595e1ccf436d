/**
 * Vaults and their credentials (managed-agents-protocol.md §8): params, and the objects as they are stored and shown.
 *
 * - S1: secrets are in params alone. The stored and shown forms have no place for them.
 * - One deviation: our broker puts secrets in headers, so `injection_location` is `{header: true, body: false}` and
 *   `body: true` is refused.
 */
import { z } from 'zod';
import { metadata, metadataParam, metadataPatch, timestamp, unavailable } from './fields.ts';
import { hostPattern } from './hosts.ts';

export const maxCredentials = 20;
export const maxVaultsOfSession = 50;
const maxSecretLength = 16_384;

/** What a header can carry. */
const secret = z
  .string()
  .min(1)
  .max(maxSecretLength)
  .regex(/^[\x20-\x7e]*$/, 'must be visible ASCII on one line: it is put into a request header');

/** What the gateway takes out of answers must not turn up in them by chance. */
const variableValue = secret.min(
  8,
  'must have 8 characters or more: what is shorter can not be told from other text',
);

const displayName = z.string().min(1).max(255);

/** RFC 3339, kept in UTC with milliseconds. */
const expiry = z
  .string()
  .refine((text) => z.iso.datetime({ offset: true }).safeParse(text).success, 'must be an RFC 3339 timestamp')
  .transform((text) => new Date(text).toISOString())
  .meta({ described: { type: 'string', format: 'date-time' } });

const url = z
  .string()
  .max(2048)
  .refine((text) => urlFlaw(text) === null, { error: (issue) => urlFlaw(String(issue.input)) ?? 'invalid' });

function urlFlaw(text: string): string | null {
  const parsed = URL.parse(text);
  if (parsed === null) return 'must be a URL';
  if (parsed.username !== '' || parsed.password !== '') return 'must not carry a user or password';
  if (parsed.hash !== '') return 'must not have a fragment';
  if (parsed.protocol === 'https:') return null;
  return parsed.protocol === 'http:' && isLoopback(parsed.hostname) ? null : 'must be https';
}

/** Whether a URL's host names this machine. */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** The form in which servers are compared: scheme and host lower-cased, no default port, no trailing slash. */
function mcpServerKey(serverUrl: string): string {
  const parsed = new URL(serverUrl);
  return `${parsed.protocol}//${parsed.host}${parsed.pathname.replace(/\/+$/, '')}${parsed.search}`;
}

/** Unique among the active credentials of a vault: one for each server or variable. */
export function credentialKeyOf(auth: CredentialAuth): string {
  return auth.type === 'environment_variable'
    ? `variable ${auth.secret_name}`
    : serverKeyOf(auth.mcp_server_url);
}

export function serverKeyOf(serverUrl: string): string {
  return `server ${mcpServerKey(serverUrl)}`;
}

/** As the gateway compares it; what ends in a number is an address or nothing, as it is there. */
const host = hostPattern
  .transform((text) => text.toLowerCase().replace(/\.$/, ''))
  .refine((text) => z.ipv4().safeParse(text).success || !/(^|\.)(\d+|0x[0-9a-f]*)$/.test(text), 'not a host');

const networking = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('unrestricted') }),
  z.strictObject({ type: z.literal('limited'), allowed_hosts: z.array(host).min(1).max(16) }),
]);

const injectionLocation = z.strictObject({
  header: z.boolean().optional(),
  body: z
    .literal(false, {
      error: (issue) =>
        issue.input === true
          ? unavailable(
              'putting a secret into a request body is',
              'secrets go into headers; send {"header": true}',
            )
          : undefined,
    })
    .optional(),
});

/** Names that say how a process starts or whom it trusts; a placeholder there would break the sandbox. */
const reservedName =
  /^(__proto__|PATH|HOME|PWD|SHELL|USER|TMPDIR|IFS|ENV|BASH_ENV|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|SSL_CERT_\w+|LD_\w+)$/;

const secretName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,254}$/, 'must be the name of an environment variable')
  .refine((name) => !reservedName.test(name), 'is a name that the sandbox itself needs; choose another one');

const tokenEndpointAuth = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('none') }),
  z.strictObject({ type: z.literal('client_secret_basic'), client_secret: secret }),
  z.strictObject({ type: z.literal('client_secret_post'), client_secret: secret }),
]);

const scope = z.string().max(2048);

const createAuth = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('mcp_oauth'),
    mcp_server_url: url,
    access_token: secret,
    expires_at: expiry.nullish(),
    refresh: z
      .strictObject({
        client_id: z.string().min(1).max(2048),
        token_endpoint: url,
        token_endpoint_auth: tokenEndpointAuth,
        refresh_token: secret,
        resource: z.string().max(2048).nullish(),
        scope: scope.nullish(),
      })
      .nullish(),
  }),
  z.strictObject({ type: z.literal('static_bearer'), mcp_server_url: url, token: secret }),
  z.strictObject({
    type: z.literal('environment_variable'),
    secret_name: secretName,
    secret_value: variableValue,
    networking,
    injection_location: injectionLocation.optional(),
  }),
]);

const immutable = z.never({ error: () => 'can not be changed: create a new credential' }).optional();

const updateAuth = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('mcp_oauth'),
    mcp_server_url: immutable,
    access_token: secret.nullish(),
    expires_at: expiry.nullish(),
    refresh: z
      .strictObject({
        client_id: immutable,
        token_endpoint: immutable,
        resource: immutable,
        refresh_token: secret.nullish(),
        /** `""` clears. */
        scope: scope.nullish(),
        token_endpoint_auth: z
          .strictObject({
            type: z.enum(['client_secret_basic', 'client_secret_post']),
            client_secret: secret.nullish(),
          })
          .nullish(),
      })
      .nullish(),
  }),
  z.strictObject({ type: z.literal('static_bearer'), mcp_server_url: immutable, token: secret.nullish() }),
  z.strictObject({
    type: z.literal('environment_variable'),
    secret_name: immutable,
    secret_value: variableValue.nullish(),
    networking: networking.nullish(),
    injection_location: injectionLocation.optional(),
  }),
]);

export const vaultCreateParams = z.strictObject({
  display_name: displayName,
  metadata: metadataParam.nullish(),
});

export const vaultUpdateParams = z.strictObject({
  display_name: displayName.nullish(),
  metadata: metadataPatch.nullish(),
});

export const credentialCreateParams = z.strictObject({
  auth: createAuth,
  display_name: displayName.nullish(),
  metadata: metadataParam.nullish(),
});

export const credentialUpdateParams = z.strictObject({
  auth: updateAuth.nullish(),
  display_name: displayName.nullish(),
  metadata: metadataPatch.nullish(),
});

const life = { created_at: timestamp, updated_at: timestamp, archived_at: timestamp.nullable() };

export const vault = z.looseObject({
  type: z.literal('vault'),
  id: z.string(),
  display_name: z.string(),
  metadata,
  ...life,
});

const credentialAuth = z.discriminatedUnion('type', [
  z.looseObject({
    type: z.literal('mcp_oauth'),
    mcp_server_url: z.string(),
    expires_at: timestamp.nullable(),
    refresh: z
      .looseObject({
        client_id: z.string(),
        token_endpoint: z.string(),
        token_endpoint_auth: z.looseObject({
          type: z.enum(['none', 'client_secret_basic', 'client_secret_post']),
        }),
        resource: z.string().nullable(),
        scope: z.string().nullable(),
      })
      .nullable(),
  }),
  z.looseObject({ type: z.literal('static_bearer'), mcp_server_url: z.string() }),
  z.looseObject({
    type: z.literal('environment_variable'),
    secret_name: z.string(),
    networking: z.discriminatedUnion('type', [
      z.looseObject({ type: z.literal('unrestricted') }),
      z.looseObject({ type: z.literal('limited'), allowed_hosts: z.array(z.string()) }),
    ]),
    injection_location: z.looseObject({ header: z.boolean(), body: z.boolean() }),
  }),
]);

export const vaultCredential = z.looseObject({
  type: z.literal('vault_credential'),
  id: z.string(),
  vault_id: z.string(),
  display_name: z.string().nullable(),
  metadata,
  auth: credentialAuth,
  ...life,
});

const httpResponse = z.looseObject({
  status_code: z.int(),
  content_type: z.string(),
  body: z.string(),
  body_truncated: z.boolean(),
});

export const credentialValidation = z.looseObject({
  type: z.literal('vault_credential_validation'),
  vault_id: z.string(),
  credential_id: z.string(),
  validated_at: timestamp,
  has_refresh_token: z.boolean(),
  status: z.enum(['valid', 'invalid', 'unknown']),
  mcp_probe: z.looseObject({ method: z.string(), http_response: httpResponse.nullable() }).nullable(),
  refresh: z
    .looseObject({
      status: z.enum(['succeeded', 'failed', 'connect_error', 'no_refresh_token']),
      http_response: httpResponse.nullable(),
    })
    .nullable(),
});

/** Ours: what a rotation of the key-encryption key did. */
export const vaultKeyRotation = z.looseObject({
  type: z.literal('vault_key_rotation'),
  /** Of the key that wraps now. */
  key_id: z.string(),
  /** Data keys wrapped anew. */
  rewrapped: z.int(),
  /** Those whose old key could not be had; they stay as they are. */
  failed: z.int(),
});

export type CreateAuth = z.infer<typeof createAuth>;
export type UpdateAuth = z.infer<typeof updateAuth>;
/** As shown, and as stored: no secret is in it. */
export type CredentialAuth = z.infer<typeof credentialAuth>;
export type CredentialValidation = z.infer<typeof credentialValidation>;
export type HttpResponse = z.infer<typeof httpResponse>;
