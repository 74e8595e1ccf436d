/**
 * A client that follows a session by SSE from its beginning, loses its connection now and then, and comes back with
 * Last-Event-ID. It keeps what it saw position by position; what belongs together is counted once it is whole.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../src/protocol/json.ts';
import type { Frame, Group, ReaderEvidence } from './evidence.ts';

const reconnectMs = 150;

export type ReaderOptions = {
  url: string;
  apiKey: string;
  session: string;
  name: string;
  /** When to hang up next, from now; null: never by itself. */
  hangUpAfterMs(): number | null;
  /** What several readers see alike is kept once; `words` are the group's, as they came. */
  share(group: Group, words: string): Group;
  onGroup(group: Group): void;
};

export class Reader {
  readonly groups: Group[] = [];
  readonly #options: ReaderOptions;
  #connections = 0;
  #isStopped = false;
  #mayHangUp = true;
  #connection = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#running = this.#follow();
  }

  get lastSeq(): number {
    return this.groups.at(-1)?.seq ?? 0;
  }

  /** No more hanging up: the rest is to be read in peace. */
  settle(): void {
    this.#mayHangUp = false;
  }

  async stop(): Promise<ReaderEvidence> {
    this.#isStopped = true;
    this.#connection.abort();
    await this.#running;
    const { session, name } = this.#options;
    return { session, name, groups: this.groups, connections: this.#connections };
  }

  async #follow(): Promise<void> {
    while (!this.#isStopped) {
      this.#connection = new AbortController();
      const hangUpMs = this.#mayHangUp ? this.#options.hangUpAfterMs() : null;
      const timer = hangUpMs === null ? null : setTimeout(() => this.#connection.abort(), hangUpMs);
      await this.#connect(this.#connection.signal).catch(() => {});
      if (timer) clearTimeout(timer);
      if (!this.#isStopped) await sleep(reconnectMs);
    }
  }

  async #connect(signal: AbortSignal): Promise<void> {
    const { url, apiKey, session } = this.#options;
    const headers: Record<string, string> = { authorization: `Bearer ${apiKey}` };
    // The first one names the beginning, later ones where they were cut.
    if (this.lastSeq > 0) headers['last-event-id'] = String(this.lastSeq);
    const response = await fetch(new URL(`/v1/sessions/${session}/events/stream?after=0`, url), {
      headers,
      signal,
    });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      return;
    }
    this.#connections++;
    await this.#read(response.body);
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = '';
    let waiting: Frame[] = [];
    let words = '';
    for await (const chunk of body) {
      const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const frame = frameOf(block);
        if (frame === null) continue;
        if (frame.type === 'error') return;
        waiting.push({ type: frame.type, data: frame.data });
        words += block;
        if (frame.seq === null) continue;
        const group = this.#options.share({ seq: frame.seq, frames: waiting }, words);
        waiting = [];
        words = '';
        this.groups.push(group);
        this.#options.onGroup(group);
      }
    }
  }
}

function frameOf(block: string): (Frame & { seq: number | null }) | null {
  let type = 'message';
  let seq: number | null = null;
  let data = '';
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) type = line.slice(7);
    if (line.startsWith('id: ')) seq = Number(line.slice(4));
    if (line.startsWith('data: ')) data += line.slice(6);
  }
  return data === '' ? null : { type, seq, data: JSON.parse(data) as JsonObject };
}
