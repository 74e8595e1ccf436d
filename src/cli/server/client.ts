/**
 * The command line's HTTP: one request, one answer, errors as `Refused` in one clear line.
 *
 * Promises kept here
 * - Every POST carries an `Idempotency-Key`, so that a request cut by a dying server is asked again and done once (L2).
 * - A server that went away is waited for, for a bounded time; its address and key are looked up again each time.
 * - The key is in no message (S1).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../../protocol/json.ts';
import { Refused } from '../ending.ts';

export type Address = { url: string; apiKey: string | null };

/** Where the server is now; asked again after every connection that failed. */
export type Locate = () => Promise<Address>;

export class ApiRefusal extends Refused {
  readonly status: number;
  readonly type: string;

  constructor(status: number, type: string, message: string, hint?: string) {
    super(message, hint === undefined ? {} : { hint });
    this.status = status;
    this.type = type;
  }
}

export type RequestOptions = {
  query?: Record<string, string | string[] | undefined>;
  json?: JsonObject;
  form?: FormData;
  idempotencyKey?: string;
  signal?: AbortSignal;
  headers?: Record<string, string>;
};

const DEFAULT_PATIENCE_MS = 60_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

export class Client {
  readonly #locate: Locate;
  readonly #patienceMs: number;
  #address: Address;

  constructor(address: Address, locate: Locate, patienceMs: number = DEFAULT_PATIENCE_MS) {
    this.#address = address;
    this.#locate = locate;
    this.#patienceMs = patienceMs;
  }

  get url(): string {
    return this.#address.url;
  }

  get patienceMs(): number {
    return this.#patienceMs;
  }

  async relocate(): Promise<void> {
    this.#address = await this.#locate();
  }

  get<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#json<T>('GET', path, options);
  }

  post<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#json<T>('POST', path, { idempotencyKey: randomUUID(), ...options });
  }

  delete<T>(path: string, options: RequestOptions = {}): Promise<T> {
    return this.#json<T>('DELETE', path, options);
  }

  /** The answer as it comes, headers only; the caller reads or cancels the body. Not repeated. */
  async open(path: string, options: RequestOptions = {}): Promise<Response> {
    const response = await this.#send('GET', path, options);
    if (!response.ok) throw await refusalOf(response);
    return response;
  }

  /** A body to be read whole, asked for again where the connection fails before the first byte. */
  async #json<T>(method: string, path: string, options: RequestOptions): Promise<T> {
    const response = await this.#withPatience(() => this.#send(method, path, options));
    if (!response.ok) throw await refusalOf(response);
    return (await response.json()) as T;
  }

  async #withPatience(send: () => Promise<Response>): Promise<Response> {
    const untilMs = Date.now() + this.#patienceMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      let problem: unknown;
      try {
        const response = await send();
        if (response.status !== 503 || Date.now() >= untilMs) return response;
        await response.body?.cancel();
      } catch (error) {
        if (error instanceof Refused || (error as Error).name === 'AbortError') throw error;
        problem = error;
      }
      if (Date.now() >= untilMs) throw unreachable(this.url, problem);
      await sleep(pauseMs);
      await this.relocate();
    }
  }

  #send(method: string, path: string, options: RequestOptions): Promise<Response> {
    const url = new URL(path.replace(/^\//, ''), this.url.endsWith('/') ? this.url : `${this.url}/`);
    for (const [name, value] of Object.entries(options.query ?? {}))
      for (const one of Array.isArray(value) ? value : value === undefined ? [] : [value])
        url.searchParams.append(name, one);
    const headers: Record<string, string> = { 'anthropic-version': '2026-10-21', ...options.headers };
    if (this.#address.apiKey !== null) headers.authorization = `Bearer ${this.#address.apiKey}`;
    if (options.json !== undefined) headers['content-type'] = 'application/json';
    if (options.idempotencyKey !== undefined) headers['idempotency-key'] = options.idempotencyKey;
    const body = options.json === undefined ? options.form : JSON.stringify(options.json);
    return fetch(url, {
      method,
      headers,
      redirect: 'error',
      ...(body === undefined ? {} : { body }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
  }
}

export function unreachable(url: string, problem: unknown): Refused {
  const cause = (problem as { cause?: { code?: string } } | undefined)?.cause?.code;
  return new Refused(
    `no server answers at ${url || 'any known address'}${cause === undefined ? '' : ` (${cause})`}`,
    {
      hint: 'start one with: scriptorium up',
    },
  );
}

export async function refusalOf(response: Response): Promise<ApiRefusal> {
  const body = (await response.json().catch(() => null)) as {
    error?: { type?: string; message?: string };
    request_id?: string;
  } | null;
  const type = body?.error?.type ?? 'unknown';
  const said = body?.error?.message ?? `the server answered ${response.status} without saying why`;
  const id = body?.request_id ?? response.headers.get('request-id');
  const message = response.status >= 500 && id ? `${said} (request ${id})` : said;
  return new ApiRefusal(response.status, type, message, hintFor(response.status));
}

function hintFor(status: number): string | undefined {
  if (status === 401)
    return 'give the key with --api-key or SCRIPTORIUM_API_KEY; `scriptorium up` prints it on its first start';
  if (status === 404) return 'scriptorium ls shows the sessions of this server';
  if (status >= 500) return 'scriptorium doctor tells what the server lacks';
  return undefined;
}
