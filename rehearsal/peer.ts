/**
 * The rehearsal: a model peer that speaks the OpenAI Responses wire over HTTP and answers from a script that branches
 * on what it receives. Strict where the real API is strict, honest about caching, and able to misbehave.
 *
 * It is a program of its own: nothing of `src/` is imported here, and `src/` imports nothing of this.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { createWriteStream, type WriteStream } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type Asked, isSealed, itemsOf } from './answer.ts';
import { PromptCache } from './prompt-cache.ts';
import type { Json, JsonObject, Reply, Script } from './script.ts';
import { send, sendError, sendJson } from './send.ts';
import { readTurn } from './turn.ts';
import { validate } from './validate.ts';

export type RecordedRequest = {
  /** The exact bytes; null once there are more than `keepBodies` newer ones. */
  body: Buffer | null;
  bodyBytes: number;
  sha256: string;
  /** Without the credential. */
  headers: Record<string, string>;
  receivedAt: string;
  /** Which connection it came on, counted from 0. */
  connection: number;
  /** From the last byte of the request to the last byte of the response: what a bench takes away from its own time. */
  serviceMs: number | null;
  status: number | null;
  /** Why it was refused, where it was. */
  problem: string | null;
  cachedTokens: number;
  /** True once the client closed the connection before the response was over. */
  isAborted: boolean;
};

export type RehearsalOptions = {
  script: Script;
  port?: number;
  host?: string;
  /** The only accepted key. Default: any. */
  apiKey?: string;
  args?: Record<string, string>;
  /** Appends each request to this file, as a line of JSON. */
  recordPath?: string;
  /** Bodies kept in memory. Default 256: histories grow quadratically when each step sends all of it. */
  keepBodies?: number;
  models?: string[];
};

export type Rehearsal = {
  /** With `/v1`: what an SDK takes as its base URL. */
  url: string;
  requests: RecordedRequest[];
  /** What scripts complained about with `{fail}`, in order. */
  failures: string[];
  setScript(script: Script): void;
  stop(): Promise<void>;
};

const defaultKeptBodies = 256;

export async function startRehearsal(options: RehearsalOptions): Promise<Rehearsal> {
  const peer = new Peer(options);
  const server = createServer((request, response) => {
    void peer.handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) sendError(response, 500, `The rehearsal itself failed: ${String(error)}`);
      else response.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  const host = options.host ?? '127.0.0.1';
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}/v1`,
    requests: peer.requests,
    failures: peer.failures,
    setScript: (script) => peer.setScript(script),
    stop: () => stop(server, peer),
  };
}

async function stop(server: Server, peer: Peer): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
  await peer.close();
}

class Peer {
  readonly requests: RecordedRequest[] = [];
  readonly failures: string[] = [];
  readonly #options: RehearsalOptions;
  readonly #cache = new PromptCache();
  readonly #seenBodies = new Map<string, number>();
  readonly #requestsByKey = new Map<string, number>();
  /** Item id → the reasoning that came with it. */
  readonly #reasoningOf = new Map<string, string>();
  readonly #record: WriteStream | null;
  readonly #connections = new WeakMap<Socket, number>();
  #connectionCount = 0;
  #script: Script;

  constructor(options: RehearsalOptions) {
    this.#options = options;
    this.#script = options.script;
    this.#record =
      options.recordPath === undefined ? null : createWriteStream(options.recordPath, { flags: 'a' });
  }

  setScript(script: Script): void {
    this.#script = script;
  }

  close(): Promise<void> {
    return new Promise((resolve) => (this.#record === null ? resolve() : this.#record.end(resolve)));
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://peer');
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (request.method === 'GET' && pathname === '/rehearsal/report')
      return sendJson(response, 200, this.#report());
    if (!this.#isAuthorized(request, response)) return;
    if (request.method === 'GET' && pathname === '/v1/models') return sendJson(response, 200, this.#models());
    if (request.method === 'POST' && pathname === '/v1/responses') {
      return this.#respond(request, response, Buffer.concat(chunks));
    }
    sendError(response, 404, `Invalid URL (${request.method} ${pathname})`);
  }

  #isAuthorized(request: IncomingMessage, response: ServerResponse): boolean {
    const key = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    const expected = this.#options.apiKey;
    if (key !== '' && (expected === undefined || isSame(key, expected))) return true;
    const message =
      key === ''
        ? "You didn't provide an API key."
        : // Quotes it in full, which is worse than the real one does: a client must never pass it on.
          `Incorrect API key provided: ${key}.`;
    sendError(response, 401, message, { code: key === '' ? null : 'invalid_api_key' });
    return false;
  }

  async #respond(request: IncomingMessage, response: ServerResponse, body: Buffer): Promise<void> {
    const startedMs = performance.now();
    const record = this.#begin(request, body);
    response.once('close', () => {
      record.serviceMs = performance.now() - startedMs;
      record.status = response.statusCode;
      record.isAborted = !response.writableFinished;
      this.#write(record, body);
    });
    const parsed = parse(body);
    const refusal = parsed === undefined ? notJson : validate(parsed, this.#issued);
    if (refusal !== null) {
      record.problem = refusal.message;
      return sendError(response, 400, refusal.message, refusal);
    }
    const asked: Asked = {
      sha256: record.sha256,
      body: parsed as JsonObject,
      bodyBytes: body.length,
      cachedTokens: this.#cache.admit(cacheKeyOf(parsed as JsonObject), body),
      atSeconds: Math.floor(Date.now() / 1000),
    };
    record.cachedTokens = asked.cachedTokens;
    const reply = await this.#ask(asked, request);
    if ('fail' in reply) {
      record.problem = reply.fail;
      this.failures.push(reply.fail);
    }
    this.#remember(asked, reply);
    await send(response, asked, reply);
  }

  async #ask(asked: Asked, request: IncomingMessage): Promise<Reply> {
    const key = cacheKeyOf(asked.body);
    const requestsBefore = this.#requestsByKey.get(key) ?? 0;
    const attempt = this.#seenBodies.get(asked.sha256) ?? 0;
    this.#requestsByKey.set(key, requestsBefore + 1);
    this.#seenBodies.set(asked.sha256, attempt + 1);
    const facts = { attempt, requestsBefore, headers: plainHeaders(request), args: this.#options.args ?? {} };
    try {
      return await this.#script(readTurn(asked.body, facts));
    } catch (error) {
      return { fail: `The script threw: ${error instanceof Error ? error.message : String(error)}` };
    }
  }

  readonly #issued = {
    isOurs: isSealed,
    reasoningOf: (id: string): string | null => this.#reasoningOf.get(id) ?? null,
  };

  /** Which items stand right behind reasoning: they may not come back without it. */
  #remember(asked: Asked, reply: Reply): void {
    if (!('reasoning' in reply)) return;
    const [reasoning, next] = itemsOf(asked, reply);
    if (reasoning !== undefined && next !== undefined)
      this.#reasoningOf.set(String(next.id), String(reasoning.id));
  }

  #begin(request: IncomingMessage, body: Buffer): RecordedRequest {
    const record: RecordedRequest = {
      body,
      bodyBytes: body.length,
      sha256: createHash('sha256').update(body).digest('hex'),
      headers: plainHeaders(request),
      receivedAt: new Date().toISOString(),
      connection: this.#numberOf(request.socket),
      serviceMs: null,
      status: null,
      problem: null,
      cachedTokens: 0,
      isAborted: false,
    };
    this.requests.push(record);
    const oldest = this.requests.at(-1 - (this.#options.keepBodies ?? defaultKeptBodies));
    if (oldest !== undefined) oldest.body = null;
    return record;
  }

  #numberOf(socket: Socket): number {
    const number = this.#connections.get(socket) ?? this.#connectionCount++;
    this.#connections.set(socket, number);
    return number;
  }

  #write(record: RecordedRequest, body: Buffer): void {
    this.#record?.write(`${JSON.stringify({ ...record, body: body.toString('utf8') })}\n`);
  }

  #report(): Json {
    const requests = this.requests.map(({ body: _, ...record }) => record);
    return { failures: this.failures, requests };
  }

  #models(): Json {
    const models = this.#options.models ?? ['rehearsal-1'];
    return {
      object: 'list',
      data: models.map((id) => ({ id, object: 'model', created: 0, owned_by: 'rehearsal' })),
    };
  }
}

const notJson = {
  message: 'We could not parse the JSON body of your request.',
  param: null,
  code: null,
};

function parse(body: Buffer): Json | undefined {
  try {
    return JSON.parse(body.toString('utf8')) as Json;
  } catch {
    return undefined;
  }
}

function cacheKeyOf(body: JsonObject): string {
  return typeof body.prompt_cache_key === 'string' ? body.prompt_cache_key : '';
}

function plainHeaders(request: IncomingMessage): Record<string, string> {
  const entries = Object.entries(request.headers).map(([name, value]) => [name, String(value)] as const);
  return { ...Object.fromEntries(entries), authorization: '[redacted]' };
}

function isSame(left: string, right: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(left), hash(right));
}
