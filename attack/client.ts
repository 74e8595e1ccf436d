/** The attack as a client of the server: sessions, turns, and what the log says of them. */
import { setTimeout as sleep } from 'node:timers/promises';

export type Event = { id: string; type: string; content?: { text?: string }[]; [field: string]: unknown };
type Page = { data: Event[]; next_page: string | null };

/** Longer than one command may take. */
const turnLimitMs = 150_000;
const pollMs = 25;

export class Client {
  readonly #url: string;
  readonly #key: string;

  constructor(url: string, key: string) {
    this.#url = url;
    this.#key = key;
  }

  /** Rejects where the server refuses: the attack knows its own API. */
  async ask<T = { id: string }>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(new URL(path, this.#url), {
      method,
      headers: { authorization: `Bearer ${this.#key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 500)}`);
    return JSON.parse(text || '{}') as T;
  }

  /** One turn, to its end; what its `count` calls were answered, in order. Null where it did not end so. */
  async turn(session: string, message: string, count: number): Promise<string[] | null> {
    const before = await this.#last(session, 'session.status_idle');
    const content = [{ type: 'text', text: message }];
    await this.ask('POST', `/v1/sessions/${session}/events`, { events: [{ type: 'user.message', content }] });
    const untilMs = performance.now() + turnLimitMs;
    while ((await this.#last(session, 'session.status_idle')) === before) {
      if (performance.now() > untilMs) return null;
      await sleep(pollMs);
    }
    const query = `types=agent.tool_result&order=desc&limit=${Math.max(count, 1)}`;
    const { data } = await this.ask<Page>('GET', `/v1/sessions/${session}/events?${query}`);
    if (data.length < count) return null;
    return data.reverse().map((event) => (event.content ?? []).map(({ text = '' }) => text).join(''));
  }

  async events(session: string): Promise<Event[]> {
    const all: Event[] = [];
    for (let page: string | null = ''; page !== null; ) {
      const query: string = page === '' ? '' : `&page=${encodeURIComponent(page)}`;
      const got: Page = await this.ask<Page>('GET', `/v1/sessions/${session}/events?limit=500${query}`);
      all.push(...got.data);
      page = got.next_page;
    }
    return all;
  }

  async #last(session: string, type: string): Promise<string | null> {
    const path = `/v1/sessions/${session}/events?types=${type}&order=desc&limit=1`;
    return (await this.ask<Page>('GET', path)).data[0]?.id ?? null;
  }
}
