/**
 * A host's way into a fleet: it asks an api for the living engines and keeps a connection to each. It dials out only, so
 * it needs no open port, and it never sees the store.
 *
 * - S4: who answers is believed nothing but addresses: an engine proves itself on the link, or is not spoken to.
 * - Losing a connection, an engine or the api costs nothing that runs here; it is dialled again.
 */
import type { Socket } from 'node:net';
import { joinProof, type Token } from '../link/secret.ts';
import { dialLink, parseAddress } from '../link/tls.ts';

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
/** An engine asks how we are every few seconds; one that does not is gone. */
const silentMs = 20_000;
const maxEngines = 1_000;

export class Joining {
  readonly #options: JoinOptions;
  readonly #sockets = new Map<string, Socket>();
  readonly #dialling = new Set<string>();
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
    try {
      for (const address of await this.#ask()) void this.#dial(address);
    } catch (error) {
      const cause = (error as Error).cause;
      this.#say(`${this.#options.url}: ${cause instanceof Error ? cause.message : (error as Error).message}`);
    }
    if (!this.#isOver)
      this.#timer = setTimeout(() => void this.#round(), this.#options.everyMs ?? defaultEveryMs);
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
    if (response.status === 401) throw new Error('the token of this host is refused');
    if (!response.ok) throw new Error(`the api answered ${response.status}`);
    const { engines } = JSON.parse(text) as { engines?: unknown };
    if (!Array.isArray(engines)) throw new Error('the api answered without engines');
    return engines.filter((one): one is string => typeof one === 'string').slice(0, maxEngines);
  }

  async #dial(address: string): Promise<void> {
    const to = parseAddress(address);
    if (to === null || this.#sockets.has(address) || this.#dialling.has(address)) return;
    this.#dialling.add(address);
    try {
      const socket = await dialLink(to, this.#options.token);
      if (this.#isOver) return void socket.destroy();
      this.#sockets.set(address, socket);
      socket.setTimeout(silentMs, () => socket.destroy());
      socket.once('close', () => {
        this.#sockets.delete(address);
        this.#say(`the connection to ${address} is gone`);
      });
      this.#options.serve(socket);
      this.#say(`connected to ${address}`);
    } catch (error) {
      this.#say(`${address}: ${(error as Error).message}`);
    } finally {
      this.#dialling.delete(address);
    }
  }

  /** What has been said last is not said again. */
  #say(message: string): void {
    if (message === this.#lastWords || this.#isOver) return;
    this.#lastWords = message;
    this.#options.onChange(message);
  }
}
