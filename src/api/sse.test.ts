import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TestApi } from '../../test/sdk/test-api.ts';
import { dataOf, makeSession, openTestApi, record, say } from '../../test/sdk/test-api.ts';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import { StoreUnavailable } from '../store/store.ts';

let api: TestApi;
beforeEach(async () => {
  api = await openTestApi({ limits: { heartbeatMs: 20, previewFrames: 4 } });
});
afterEach(() => api.close());

type Frame = { event: string; id: string | null; data: JsonObject };

/** Reads a stream frame by frame, as the SDK does: comments are skipped. */
class Reader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #text = '';

  constructor(response: Response) {
    this.#reader = (response.body as ReadableStream<Uint8Array>).getReader();
  }

  async next(): Promise<Frame | null> {
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end >= 0) {
        const block = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 2);
        const frame = parse(block);
        if (frame) return frame;
        continue;
      }
      const { value, done } = await this.#reader.read();
      if (done) return null;
      this.#text += this.#decoder.decode(value, { stream: true });
    }
  }

  async take(count: number): Promise<Frame[]> {
    const frames: Frame[] = [];
    while (frames.length < count) {
      const frame = await this.next();
      if (frame === null) break;
      frames.push(frame);
    }
    return frames;
  }

  /** The next block as it is on the wire. */
  async comment(): Promise<string> {
    while (!this.#text.includes('\n\n')) {
      const { value } = await this.#reader.read();
      this.#text += this.#decoder.decode(value);
    }
    const end = this.#text.indexOf('\n\n');
    const block = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 2);
    return block;
  }

  cancel(): Promise<void> {
    return this.#reader.cancel();
  }
}

function parse(block: string): Frame | null {
  const field = (name: string) =>
    block
      .split('\n')
      .find((line) => line.startsWith(`${name}: `))
      ?.slice(name.length + 2) ?? null;
  const event = field('event');
  return event === null
    ? null
    : { event, id: field('id'), data: JSON.parse(field('data') ?? 'null') as JsonObject };
}

async function open(session: string, query = '', headers: Record<string, string> = {}): Promise<Reader> {
  const response = await api.fetch(`/v1/sessions/${session}/events/stream${query}`, { headers });
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  return new Reader(response);
}

const send = (id: string, ...events: JsonObject[]) =>
  api.ask('POST', `/v1/sessions/${id}/events`, { events });

describe('the event stream', () => {
  it('begins at the head when the connection opens: no backlog, and nothing after it is missed', async () => {
    const { id } = await makeSession(api);
    await send(id, say('Before.'));
    const reader = await open(id);
    const sent = await send(id, say('After.'));
    const [frame] = await reader.take(1);
    expect(frame).toMatchObject({
      event: 'user.message',
      data: { id: dataOf(sent)[0]?.id, processed_at: null },
    });
    await reader.cancel();
  });

  it('sends a queued input again, with processed_at, when it is taken up', async () => {
    const { id } = await makeSession(api);
    const reader = await open(id);
    const input = String(dataOf(await send(id, say('Go.')))[0]?.id);
    await record(api, id, { type: 'input.processed', audience: 'internal', public: { event_ids: [input] } });
    const frames = await reader.take(4);
    expect(frames.map((frame) => frame.event)).toEqual([
      'user.message',
      'session.status_running',
      'session.thread_status_running',
      'user.message',
    ]);
    const [first, , , second] = frames;
    expect([first?.data.id, second?.data.id]).toEqual([input, input]);
    expect([first?.data.processed_at, second?.data.processed_at]).toEqual([null, expect.any(String)]);
    await reader.cancel();
  });

  it('resumes after any frame with the same rest, by Last-Event-ID, ?after= and an event id', async () => {
    const { id } = await makeSession(api);
    const live = await open(id);
    const inputs = dataOf(await send(id, say('One.'), say('Two.'), say('Three.')));
    const ids = inputs.map((input) => String(input.id));
    await record(api, id, { type: 'input.processed', audience: 'internal', public: { event_ids: ids } });
    await record(api, id, { type: 'agent.message', public: { content: [] } });
    const frames = await live.take(9);
    expect(frames.map((frame) => frame.event)).toEqual([
      ...Array(3).fill('user.message'),
      'session.status_running',
      'session.thread_status_running',
      ...Array(3).fill('user.message'),
      'agent.message',
    ]);
    for (const [index, frame] of frames.entries()) {
      if (frame.id === null) continue;
      const rest = frames.slice(index + 1);
      const byHeader = await open(id, '', { 'last-event-id': frame.id });
      expect(await byHeader.take(rest.length)).toEqual(rest);
      const byQuery = await open(id, `?after=${frame.id}`);
      expect(await byQuery.take(rest.length)).toEqual(rest);
      await Promise.all([byHeader.cancel(), byQuery.cancel()]);
    }
    const byEvent = await open(id, `?after=${ids[2]}`);
    expect((await byEvent.take(1))[0]).toEqual(frames[3]);
    await Promise.all([byEvent.cancel(), live.cancel()]);
  });

  it.each(['-1', '999999', 'sevt_unknown', 'x'])(
    'refuses to resume after %j instead of guessing',
    async (after) => {
      const { id } = await makeSession(api);
      const response = await api.fetch(`/v1/sessions/${id}/events/stream?after=${after}`);
      expect(response.status).toBe(400);
    },
  );

  it('shows every reader the same log however appends and reads interleave', async () => {
    const { id } = await makeSession(api);
    const readers = await Promise.all(Array.from({ length: 5 }, () => open(id)));
    const appends = (async () => {
      for (let i = 0; i < 60; i++) {
        await record(api, id, {
          type: 'agent.message',
          public: { content: [{ type: 'text', text: `${i}` }] },
        });
      }
    })();
    const seen = await Promise.all(readers.map((reader) => reader.take(60)));
    await appends;
    for (const frames of seen) {
      expect(frames.map((frame) => frame.data)).toEqual(seen[0]?.map((frame) => frame.data));
      expect(frames.map((frame) => Number(frame.id))).toEqual(frames.map((_, i) => i + 2));
    }
    await Promise.all(readers.map((reader) => reader.cancel()));
  });

  it('keeps a quiet connection alive with comments', async () => {
    const { id } = await makeSession(api);
    const reader = await open(id);
    // The first is sent at once, for the headers; the others only because nothing happens.
    for (let i = 0; i < 4; i++) expect(await reader.comment()).toMatch(/^: ?/);
    await reader.cancel();
  });

  it('says session.deleted and ends, even to a reader that lags behind the erasure', async () => {
    const { id } = await makeSession(api);
    const [quick, slow] = await Promise.all([open(id), open(id)]);
    await record(api, id, { type: 'session.status_running' });
    expect((await quick.take(1))[0]?.event).toBe('session.status_running');
    await record(api, id, {
      type: 'session.status_idle',
      public: { stop_reason: { type: 'end_turn' }, stop_details: null },
    });
    expect((await api.ask('DELETE', `/v1/sessions/${id}`)).status).toBe(200);
    for (const reader of [quick, slow]) {
      const frames: Frame[] = [];
      for (let frame = await reader.next(); frame; frame = await reader.next()) frames.push(frame);
      expect(frames.at(-1)?.event).toBe('session.deleted');
    }
  });

  it('ends open streams when the server closes', async () => {
    const closing = new AbortController();
    await api.close();
    api = await openTestApi({ closing: closing.signal });
    const { id } = await makeSession(api);
    const reader = await open(id);
    const end = reader.next();
    closing.abort();
    expect(await end).toBeNull();
  });

  it('ends with an error frame that says nothing of the inside when the store goes away', async () => {
    const { id } = await makeSession(api);
    const reader = await open(id);
    const { read } = api.store;
    api.store.read = () => Promise.reject(new StoreUnavailable('disk full at /secret/path'));
    await record(api, id, { type: 'session.status_running' });
    // A read that was under way already may still answer.
    let frame = await reader.next();
    if (frame?.event === 'session.status_running') {
      await record(api, id, { type: 'session.status_running' });
      frame = await reader.next();
    }
    expect(frame).toMatchObject({
      event: 'error',
      id: null,
      data: { type: 'error', error: { type: 'api_error' } },
    });
    expect(JSON.stringify(frame)).not.toContain('secret');
    expect(await reader.next()).toBeNull();
    api.store.read = read;
  });

  it('drops a reader that takes nothing, and lets go of its subscriptions', async () => {
    await api.close();
    api = await openTestApi({ limits: { stalledReaderMs: 30, heartbeatMs: 10_000 } });
    const { id } = await makeSession(api);
    const response = await api.fetch(`/v1/sessions/${id}/events/stream`);
    const text = 'x'.repeat(50_000);
    for (let i = 0; i < 6; i++) {
      await record(api, id, { type: 'agent.message', public: { content: [{ type: 'text', text }] } });
    }
    await new Promise((resolve) => setTimeout(resolve, 400));
    await expect(new Reader(response).take(6)).rejects.toThrow('took nothing');
  });
});

describe('previews', () => {
  const start = (id: string) => ({ type: 'event_start', event: { type: 'agent.message', id } }) as const;
  const delta = (id: string, text: string) =>
    ({
      type: 'event_delta',
      event_id: id,
      delta: { type: 'content_delta', index: 0, content: { type: 'text', text } },
    }) as const;

  it('come only when asked for, start first, and end with the authoritative event', async () => {
    const { id } = await makeSession(api);
    const [with_, without] = [await open(id, '?event_deltas[]=agent.message'), await open(id)];
    const message = newId('event');
    api.preview(delta(message, 'too early'));
    api.preview(start(message));
    api.preview(start(message));
    api.preview(delta(message, 'Hel'));
    const early = await with_.take(2);
    await record(api, id, {
      type: 'agent.message',
      id: message,
      public: { content: [{ type: 'text', text: 'Hello' }] },
    });
    const [final] = await with_.take(1);
    api.preview(delta(message, 'too late'));
    await record(api, id, { type: 'session.status_running' });
    expect([...early, final].map((frame) => frame?.event)).toEqual([
      'event_start',
      'event_delta',
      'agent.message',
    ]);
    expect(early.every((frame) => frame.id === null)).toBe(true);
    expect((await with_.take(1))[0]?.event).toBe('session.status_running');
    expect((await without.take(2)).map((frame) => frame.event)).toEqual([
      'agent.message',
      'session.status_running',
    ]);
    await Promise.all([with_.cancel(), without.cancel()]);
  });

  it('are shed as a suffix when the reader lags: the text is always a prefix', async () => {
    const { id } = await makeSession(api);
    const reader = await open(id, '?event_deltas[]=agent.message');
    const message = newId('event');
    api.preview(start(message));
    for (const text of ['a', 'b', 'c', 'd', 'e', 'f']) api.preview(delta(message, text));
    const frames = await reader.take(4);
    for (const text of ['g', 'h']) api.preview(delta(message, text));
    await record(api, id, { type: 'agent.message', id: message, public: { content: [] } });
    frames.push(...(await reader.take(1)));
    const texts = frames
      .slice(1, -1)
      .map((frame) => (frame.data.delta as { content: { text: string } }).content.text);
    expect(texts.join('')).toBe('abc');
    expect(frames.at(-1)?.event).toBe('agent.message');
    await reader.cancel();
  });

  it('of types that have none are refused', async () => {
    const { id } = await makeSession(api);
    expect(
      (await api.ask('GET', `/v1/sessions/${id}/events/stream?event_deltas[]=agent.tool_use`)).status,
    ).toBe(400);
    const many = Array(101).fill('event_deltas[]=agent.message').join('&');
    expect((await api.ask('GET', `/v1/sessions/${id}/events/stream?${many}`)).status).toBe(400);
  });
});
