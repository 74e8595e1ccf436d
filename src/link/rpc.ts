/**
 * Questions and answers on a link, in both directions at once: JSON-RPC 2.0, one message a line. A message without an id
 * is news: nobody answers it.
 *
 * - Every question settles: with the answer, or with `LinkLost` when the connection ends first.
 * - A line that is malformed or longer than its cap ends the link; nothing of it is kept.
 * - News to a peer that does not read are dropped, never piled up.
 */
import type { Duplex } from 'node:stream';
import { encodeLine, readLines } from './lines.ts';

export class LinkLost extends Error {
  override name = 'LinkLost';
}

export type Answerer = (method: string, params: unknown, peer: RpcPeer) => Promise<unknown> | undefined;

type Waiting = { resolve(result: unknown): void; reject(error: Error): void };

const maxUnsentBytes = 4 << 20;
export const maxLinkLineBytes = 16 << 20;

export class RpcPeer {
  readonly #socket: Duplex;
  readonly #answer: Answerer;
  readonly #onNews: (method: string, params: unknown) => void;
  readonly #waiting = new Map<number, Waiting>();
  readonly #closed = Promise.withResolvers<void>();
  #lastId = 0;
  #isOpen = true;

  /** `answer` gives undefined for a method it does not know. */
  constructor(
    socket: Duplex,
    answer: Answerer,
    onNews: (method: string, params: unknown) => void = () => {},
  ) {
    this.#socket = socket;
    this.#answer = answer;
    this.#onNews = onNews;
    readLines(
      socket,
      (line) => this.#receive(line),
      () => this.close(),
      maxLinkLineBytes,
    );
    socket.on('error', () => this.close());
    socket.on('close', () => this.close());
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  ask(method: string, params: object): Promise<unknown> {
    if (!this.#isOpen) return Promise.reject(new LinkLost('the link is closed'));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#write({ jsonrpc: '2.0', id, method, params });
    });
  }

  tell(method: string, params: object): void {
    if (this.#isOpen && this.#socket.writableLength < maxUnsentBytes)
      this.#write({ jsonrpc: '2.0', method, params });
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#socket.destroy();
    for (const waiting of this.#waiting.values()) waiting.reject(new LinkLost('the link broke'));
    this.#waiting.clear();
    this.#closed.resolve();
  }

  #write(message: object): void {
    if (this.#isOpen) this.#socket.write(encodeLine(message));
  }

  #receive(line: string): void {
    const message = parse(line);
    if (message === null) {
      this.close();
      return;
    }
    const { id, method, params, result, error } = message;
    if (typeof method === 'string') {
      if (typeof id === 'number') void this.#reply(id, method, params);
      else this.#onNews(method, params);
      return;
    }
    const waiting = this.#waiting.get(Number(id));
    this.#waiting.delete(Number(id));
    if (error === undefined) waiting?.resolve(result);
    else waiting?.reject(new Error(`the other side of the link: ${messageOf(error)}`));
  }

  async #reply(id: number, method: string, params: unknown): Promise<void> {
    try {
      const work = this.#answer(method, params, this);
      if (work === undefined) throw new Error(`no method ${method}`);
      this.#write({ jsonrpc: '2.0', id, result: (await work) ?? null });
    } catch (error) {
      this.#write({ jsonrpc: '2.0', id, error: { code: -32603, message: (error as Error).message } });
    }
  }
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === 'object' && message !== null ? (message as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function messageOf(error: unknown): string {
  const text = typeof error === 'object' && error !== null && 'message' in error ? error.message : error;
  return String(text).slice(0, 2000);
}
