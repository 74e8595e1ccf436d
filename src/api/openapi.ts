/**
 * The OpenAPI 3.1 document, made from the very schemas that validate. `npm run openapi` writes it; a test fails while the
 * checked-in copy is another.
 */
import { z } from 'zod';
import { agent, agentCreateParams, agentUpdateParams } from '../protocol/agents.ts';
import { environment, environmentCreateParams, environmentUpdateParams } from '../protocol/environments.ts';
import type { ErrorKind } from '../protocol/errors.ts';
import { errorKinds } from '../protocol/errors.ts';
import { file } from '../protocol/files.ts';
import { inputEventParams, sendEventsParams } from '../protocol/input-events.ts';
import type { Json, JsonObject } from '../protocol/json.ts';
import { sentEvent, sessionEvent } from '../protocol/session-events.ts';
import {
  session,
  sessionCreateParams,
  sessionResource,
  sessionThread,
  sessionUpdateParams,
  sessionUsage,
} from '../protocol/sessions.ts';
import {
  credentialCreateParams,
  credentialUpdateParams,
  vault,
  vaultCreateParams,
  vaultCredential,
  vaultUpdateParams,
} from '../protocol/vaults.ts';
import { operations } from './native/operations.ts';
import type { Operation } from './operation.ts';

const errorSchema = z.looseObject({
  type: z.literal('error'),
  error: z.looseObject({
    type: z.string(),
    message: z.string(),
    details: z.looseObject({ error_code: z.string() }).optional(),
  }),
  request_id: z.string(),
});

const named: Record<string, z.ZodType> = {
  Agent: agent,
  AgentCreateParams: agentCreateParams,
  AgentUpdateParams: agentUpdateParams,
  Environment: environment,
  EnvironmentCreateParams: environmentCreateParams,
  EnvironmentUpdateParams: environmentUpdateParams,
  Session: session,
  SessionCreateParams: sessionCreateParams,
  SessionUpdateParams: sessionUpdateParams,
  SessionResource: sessionResource,
  SessionThread: sessionThread,
  SessionUsage: sessionUsage,
  SessionEvent: sessionEvent,
  SendEventsParams: sendEventsParams,
  InputEventParams: inputEventParams,
  SentEvent: sentEvent,
  File: file,
  Vault: vault,
  VaultCreateParams: vaultCreateParams,
  VaultUpdateParams: vaultUpdateParams,
  VaultCredential: vaultCredential,
  VaultCredentialCreateParams: credentialCreateParams,
  VaultCredentialUpdateParams: credentialUpdateParams,
  Error: errorSchema,
};

export function openApiDocument(version: string): JsonObject {
  const registry = z.registry<{ id: string }>();
  const names = new Map<z.ZodType, string>();
  const name = (schema: z.ZodType, id: string): JsonObject => {
    if (!names.has(schema)) {
      names.set(schema, id);
      registry.add(schema, { id });
    }
    return { $ref: reference(names.get(schema) ?? id) };
  };
  for (const [id, schema] of Object.entries(named)) name(schema, id);
  const paths: Record<string, JsonObject> = {};
  for (const operation of operations) {
    const methods = paths[operation.path] ?? {};
    methods[operation.method] = describe(operation, name);
    paths[operation.path] = methods;
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Scriptorium',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description: 'The native API: the managed-agents protocol, with additions of our own. See docs/api.md.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, { apiKey: [] }],
    tags: [...new Set(operations.map((operation) => operation.tag))].map((tag) => ({ name: tag })),
    paths: { ...paths, ...openPaths },
    components: {
      schemas: schemasOf(registry),
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' },
      },
    },
  };
}

const openPaths: Record<string, JsonObject> = {
  '/healthz': { get: probe('healthz', 'Whether the process answers') },
  '/readyz': { get: probe('readyz', 'Whether the server can do its work; 503 where it can not') },
};

function probe(id: string, summary: string): JsonObject {
  return {
    operationId: id,
    tags: ['server'],
    summary,
    security: [],
    responses: { '200': { description: 'Yes.' } },
  };
}

type Name = (schema: z.ZodType, id: string) => JsonObject;

function describe(operation: Operation, name: Name): JsonObject {
  const { id, tag, summary } = operation;
  const body = requestBody(operation, name);
  return {
    operationId: id,
    tags: [tag],
    summary,
    parameters: [...pathParameters(operation), ...queryParameters(operation), ...headerParameters(operation)],
    ...(body ? { requestBody: body } : {}),
    responses: { '200': success(operation, name), ...failures(operation) },
  };
}

function requestBody({ id, body }: Operation, name: Name): JsonObject | null {
  if (body === null) return null;
  if (body !== 'multipart') {
    return {
      required: true,
      content: { 'application/json': { schema: name(body, `${capital(id)}Params`) } },
    };
  }
  const schema: JsonObject = {
    type: 'object',
    required: ['file'],
    properties: {
      file: { type: 'string', contentMediaType: 'application/octet-stream' },
      expires_in_seconds: { type: 'integer', minimum: 3600, maximum: 7_776_000 },
    },
  };
  return { required: true, content: { 'multipart/form-data': { schema } } };
}

function success({ id, response }: Operation, name: Name): JsonObject {
  switch (response.kind) {
    case 'json':
      return {
        description: 'Done.',
        content: { 'application/json': { schema: name(response.schema, `${capital(id)}Response`) } },
      };
    case 'bytes':
      return { description: 'The bytes.', content: { 'application/octet-stream': { schema: {} } } };
    case 'events':
      return {
        description:
          'Server-sent events: `event` is the type, `id` the position in the log, `data` a SessionEvent as JSON; ' +
          'with `event_deltas` also event_start and event_delta frames, which have no `id`.',
        content: { 'text/event-stream': { schema: name(response.schema, `${capital(id)}Event`) } },
      };
  }
}

/** What any operation may answer, and what this one may besides. */
function failures({ problems, method, body }: Operation): Record<string, JsonObject> {
  const kinds = new Set<ErrorKind>([
    'unauthenticated',
    'internal',
    'unavailable',
    'invalid_request',
    ...problems,
  ]);
  if (method !== 'get') kinds.add('idempotency_key_reused').add('too_large');
  if (body !== null && body !== 'multipart') kinds.add('body_encoding_invalid');
  const byStatus = new Map<number, string[]>();
  for (const kind of kinds) {
    const { status, type, ...rest } = errorKinds[kind];
    const label = 'code' in rest ? `${type} (${rest.code})` : type;
    byStatus.set(status, [...new Set([...(byStatus.get(status) ?? []), label])]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, labels]) => [
      String(status),
      {
        description: labels.join(', '),
        content: { 'application/json': { schema: { $ref: reference('Error') } } },
      },
    ]),
  );
}

function pathParameters({ path }: Operation): JsonObject[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, key = '']) => ({
    name: key,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
}

function queryParameters({ query }: Operation): JsonObject[] {
  return Object.entries(query.shape).map(([key, schema]) => {
    const described = plain(z.toJSONSchema(schema as z.ZodType, conversion));
    const isArray = described.type === 'array';
    return {
      name: isArray ? `${key}[]` : key,
      in: 'query',
      required: false,
      ...(isArray ? { style: 'form', explode: true } : {}),
      schema: described,
    };
  });
}

function headerParameters({ method, response }: Operation): JsonObject[] {
  const header = (key: string, description: string, pattern: string): JsonObject => ({
    name: key,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string', pattern },
  });
  if (method !== 'get') {
    return [
      header('Idempotency-Key', 'Makes a repeated request answer as the first one did.', '^[!-~]{1,255}$'),
    ];
  }
  return response.kind === 'events'
    ? [header('Last-Event-ID', 'Send the events after this position.', '^(\\d{1,15}|sevt_.+)$')]
    : [];
}

type Override = NonNullable<Parameters<typeof z.toJSONSchema>[1]>['override'];

/** Query parameters are text on the wire and something better to a client. */
const override: Override = ({ zodSchema, jsonSchema }) => {
  const described = z.globalRegistry.get(zodSchema as unknown as z.ZodType)?.described;
  if (described === undefined) return;
  for (const key of Object.keys(jsonSchema)) delete jsonSchema[key];
  Object.assign(jsonSchema, described);
};

const conversion = { io: 'input', unrepresentable: 'any', override } as const;

function schemasOf(registry: Parameters<typeof z.toJSONSchema>[0] & object): Record<string, JsonObject> {
  const { schemas } = z.toJSONSchema(registry as ReturnType<typeof z.registry<{ id: string }>>, {
    ...conversion,
    uri: reference,
  });
  return Object.fromEntries(Object.entries(schemas).map(([id, schema]) => [id, plain(schema)]));
}

/** Schemas without the members that only stand-alone documents have. */
function plain(schema: object): JsonObject {
  const {
    $schema: _schema,
    $id: _id,
    id: _name,
    described: _described,
    ...rest
  } = JSON.parse(JSON.stringify(schema)) as {
    [key: string]: Json;
  };
  return rest;
}

function reference(id: string): string {
  return `#/components/schemas/${id}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
