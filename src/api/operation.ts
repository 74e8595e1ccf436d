/**
 * What an operation of the API is: its place, its schemas, and what it does. One file each under `native/`. The same
 * value serves the request and describes it in openapi.json, so that the document cannot lie.
 *
 * Contract: `run` gets input that passed the schemas and an authenticated caller, and returns its ending as a value.
 */
import { z } from 'zod';
import type { FoldedSessions } from '../engine/folded-sessions.ts';
import type { Principal } from '../guard/identity.ts';
import type { ErrorKind, Problem } from '../protocol/errors.ts';
import { isProblem, problem } from '../protocol/errors.ts';
import type { JsonObject } from '../protocol/json.ts';
import { readJson } from './body.ts';
import type { ApiDeps, ApiLimits } from './deps.ts';
import type { EventFeed } from './feed.ts';
import { problemOf } from './issues.ts';
import { readQuery } from './query.ts';
import type { RequestKey } from './request-key.ts';
import { requestKeyOf } from './request-key.ts';

/** What operations share beside `ApiDeps`: built once per app. */
export type Shared = { deps: ApiDeps; limits: ApiLimits; feed: EventFeed; folded: FoldedSessions };

export type Incoming = Shared & {
  request: Request;
  url: URL;
  requestId: string;
  params: Record<string, string>;
  principal: Principal;
};

export type Call<Q, B> = Incoming & {
  query: Q;
  body: B;
  /** Present where the client sent an Idempotency-Key. */
  key: RequestKey | null;
};

export type Answer = { body: JsonObject } | Response | Problem;

type Method = 'get' | 'post' | 'delete';

export type Response200 =
  | { kind: 'json'; schema: z.ZodType }
  | { kind: 'bytes' }
  | { kind: 'events'; schema: z.ZodType };

export type Operation = {
  id: string;
  method: Method;
  /** With `{name}` parameters, as OpenAPI writes them. */
  path: string;
  tag: string;
  summary: string;
  query: z.ZodObject;
  /** Null: the operation takes no body (an empty object is tolerated). `multipart`: the operation reads it itself. */
  body: z.ZodType | 'multipart' | null;
  response: Response200;
  problems: ErrorKind[];
  handle(incoming: Incoming): Promise<Answer>;
};

const noQuery = z.object({});
const noBody = z.strictObject({}).optional();

type Spec<Q extends z.ZodObject, B extends z.ZodType> = {
  id: string;
  method: Method;
  path: string;
  tag: string;
  summary: string;
  query?: Q;
  body?: B;
  response: z.ZodType | Response200;
  problems?: ErrorKind[];
  run(call: Call<z.infer<Q>, z.infer<B>>): Promise<Answer> | Answer;
};

export function operation<Q extends z.ZodObject = typeof noQuery, B extends z.ZodType = typeof noBody>(
  spec: Spec<Q, B>,
): Operation {
  const querySchema = spec.query ?? (noQuery as unknown as Q);
  const bodySchema = spec.body ?? (noBody as unknown as B);
  return {
    ...described(spec),
    query: querySchema,
    body: spec.body ?? null,
    async handle(incoming) {
      const query = readQuery(incoming.url, querySchema);
      if (isProblem(query)) return query;
      const body = await readBody(incoming, spec.method, bodySchema);
      if (isProblem(body)) return body;
      const key = requestKeyOf(incoming, body.raw ?? null);
      if (key !== null && isProblem(key)) return key;
      return spec.run({ ...incoming, query: query.query, body: body.value, key });
    },
  };
}

/** An operation that reads its body itself, as a stream. */
export function uploadOperation(
  spec: Omit<Spec<typeof noQuery, never>, 'query' | 'body' | 'run'> & {
    run(incoming: Incoming): Promise<Answer>;
  },
): Operation {
  return {
    ...described(spec),
    query: noQuery,
    body: 'multipart',
    async handle(incoming) {
      const query = readQuery(incoming.url, noQuery);
      return isProblem(query) ? query : spec.run(incoming);
    },
  };
}

type Described = Pick<
  Spec<z.ZodObject, z.ZodType>,
  'id' | 'method' | 'path' | 'tag' | 'summary' | 'response' | 'problems'
>;

function described(spec: Described): Omit<Operation, 'query' | 'body' | 'handle'> {
  const { id, method, path, tag, summary, response, problems = [] } = spec;
  return {
    id,
    method,
    path,
    tag,
    summary,
    problems,
    response: 'kind' in response ? response : { kind: 'json', schema: response },
  };
}

type Body<B extends z.ZodType> = { value: z.infer<B>; raw: unknown };

async function readBody<B extends z.ZodType>(
  incoming: Incoming,
  method: Method,
  schema: B,
): Promise<Body<B> | Problem> {
  if (method === 'get') return { value: undefined as z.infer<B>, raw: undefined };
  const read = await readJson(incoming.request, incoming.limits.jsonBytes);
  if (isProblem(read)) return read;
  const parsed = schema.safeParse(read.value);
  if (parsed.success) return { value: parsed.data, raw: read.value };
  return read.value === undefined
    ? problem('invalid_request', 'This operation needs a JSON body.')
    : problemOf(parsed.error, read.value);
}
