/**
 * A host's or a gateway's way into a fleet: it asks an api for the living engines and keeps a connection to each. It dials
 * out only, so it needs no open port, and it never sees the store.
 *
 * - S4: who answers is believed nothing but addresses: an engine proves itself on the link, or is not spoken to.
 * - Losing a connection, an engine or the api costs nothing that runs here; it is dialled again. Sessions wait for that: an
 *   engine is dialled again at once and without asking the api, which may be away itself; whoever sends us away is left
 *   alone for longer and longer.
 */
import type { Socket } from 'node:net';
import { joinProof, type Token } from './secret.ts';
import { dialLink, parseAddress } from './tls.ts';

export type JoinOptions = {
  /** http(s)://… of any api. */
  url: string;
  token: Token;
  /** Serves an engine on a connection. */
  serve(socket: Socket): void;
  onChange(message: string): void;
  everyMs?: number;
};

const defaultEveryMs = 2_000;
const answerMs = 5_000;
/** After a connection is lost or refused; doubled up to the usual pace. */
const firstRetryMs = 100;
/** A connection that lasted so long was a good one. */
const soundMs = 5_000;
/** An engine asks how we are every few seconds; one that does not is gone. */
const silentMs = 20_000;
const maxEngines = 1_000;

export class Joining {
  readonly #options: JoinOptions;
  readonly #sockets = new Map<string, Socket>();
  readonly #dialling = new Set<string>();
  /** Dialled again in a moment; nobody else dials them. */
  readonly #retrying = new Set<string>();
  /** What an api named last. */
  #engines: readonly string[] = [];
  #failedRounds = 0;
  #timer: NodeJS.Timeout | null = null;
  #lastWords = '';
  #isOver = false;

  constructor(options: JoinOptions) {
    this.#options = options;
  }

  start(): void {
    void this.#round();
  }

  stop(): void {
    this.#isOver = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  async #round(): Promise<void> {
    this.#timer = null;
    try {
      this.#engines = await this.#ask();
      this.#failedRounds = 0;
      for (const address of this.#engines)
        if (!this.#retrying.has(address)) void this.#dial(address, firstRetryMs);
    } catch (error) {
      this.#failedRounds++;
      const cause = (error as Error).cause;
      this.#say(`${this.#options.url}: ${cause instanceof Error ? cause.message : (error as Error).message}`);
    }
    const failedMs = firstRetryMs * 2 ** this.#failedRounds;
    this.#roundIn(this.#failedRounds === 0 ? this.#everyMs : Math.min(this.#everyMs, failedMs));
  }

  #roundIn(ms: number): void {
    if (this.#isOver) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#round(), ms * (0.75 + Math.random() / 2));
  }

  get #everyMs(): number {
    return this.#options.everyMs ?? defaultEveryMs;
  }

  async #ask(): Promise<string[]> {
    const { url, token } = this.#options;
    const response = await fetch(new URL('/v1/hosts/join', url), {
      method: 'POST',
      headers: { authorization: joinProof(token, Date.now()), 'content-type': 'application/json' },
      body: '{}',
      redirect: 'error',
      signal: AbortSignal.timeout(answerMs),
    });
    const text = await response.text();
    if (response.status === 401) throw new Error(`the token of ${token.identity} is refused`);
    if (!response.ok) throw new Error(`the api answered ${response.status}`);
    const { engines } = JSON.parse(text) as { engines?: unknown };
    if (!Array.isArray(engines)) throw new Error('the api answered without engines');
    return engines.filter((one): one is string => typeof one === 'string').slice(0, maxEngines);
  }

  async #dial(address: string, retryMs: number): Promise<void> {
    const to = parseAddress(address);
    if (to === null || this.#isOver || this.#sockets.has(address) || this.#dialling.has(address)) return;
    this.#dialling.add(address);
    try {
      const socket = await dialLink(to, this.#options.token);
      if (this.#isOver) return void socket.destroy();
      this.#serve(address, socket, retryMs);
    } catch (error) {
      this.#say(`${address}: ${(error as Error).message}`);
      this.#dialIn(retryMs, address);
    } finally {
      this.#dialling.delete(address);
    }
  }

  #serve(address: string, socket: Socket, retryMs: number): void {
    const sinceMs = performance.now();
    this.#sockets.set(address, socket);
    socket.setTimeout(silentMs, () => socket.destroy());
    socket.once('close', () => {
      this.#sockets.delete(address);
      this.#say(`the connection to ${address} is gone`);
      this.#dialIn(performance.now() - sinceMs > soundMs ? firstRetryMs : retryMs, address);
    });
    this.#options.serve(socket);
    this.#say(`connected to ${address}`);
  }

  /** For as long as apis name it. */
  #dialIn(ms: number, address: string): void {
    if (this.#isOver) return;
    this.#retrying.add(address);
    const again = (): void => {
      this.#retrying.delete(address);
      if (this.#engines.includes(address)) void this.#dial(address, Math.min(this.#everyMs, ms * 2));
    };
    setTimeout(again, ms * (0.75 + Math.random() / 2)).unref();
  }

  /** What has been said last is not said again. */
  #say(message: string): void {
    if (message === this.#lastWords || this.#isOver) return;
    this.#lastWords = message;
    this.#options.onChange(message);
  }
}
