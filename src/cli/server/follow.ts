/**
 * One session's events from a place in its log on, through any number of connections.
 *
 * Promises kept here
 * - No event is given twice and none is left out: every reconnection names the last position it has (`Last-Event-ID`).
 * - A server that goes away is waited for, for a bounded time; it may come back elsewhere.
 * - The end of a stream is told apart: the session was deleted, the caller stopped, or the server did not come back.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../../protocol/json.ts';
import { Refused } from '../ending.ts';
import type { Client } from './client.ts';
import { ApiRefusal, unreachable } from './client.ts';
import { readFrames } from './sse.ts';

export type SessionEvent = JsonObject & { id: string; type: string; processed_at: string | null };

export type Followed =
  | { kind: 'event'; event: SessionEvent; seq: number | null }
  | { kind: 'preview'; frame: JsonObject }
  | { kind: 'connection'; state: 'lost' | 'back' };

export type FollowOptions = {
  /** Events after this sequence; 0 for all. */
  after: number;
  previews: boolean;
  signal: AbortSignal;
};

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 500;

export async function* follow(
  client: Client,
  session: string,
  options: FollowOptions,
): AsyncGenerator<Followed, void, void> {
  const seen = new Set<string>();
  let position = options.after;
  let lostAtMs: number | null = null;
  for (
    let pauseMs = FIRST_PAUSE_MS;
    !options.signal.aborted;
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
  ) {
    let problem: unknown = null;
    try {
      const response = await openStream(client, session, position, options);
      if (lostAtMs !== null) yield { kind: 'connection', state: 'back' };
      lostAtMs = null;
      pauseMs = FIRST_PAUSE_MS;
      for await (const frame of readFrames(response.body as ReadableStream<Uint8Array>)) {
        if (frame.id !== null) position = Number(frame.id);
        const item = read(frame.data, frame.id, seen);
        if (item !== null) yield item;
        if (item?.kind === 'event' && item.event.type === 'session.deleted') return;
      }
    } catch (error) {
      if (options.signal.aborted) return;
      if (error instanceof ApiRefusal && error.status < 500) throw error;
      problem = error;
    }
    if (options.signal.aborted) return;
    if (lostAtMs === null) {
      lostAtMs = Date.now();
      yield { kind: 'connection', state: 'lost' };
    }
    if (Date.now() - lostAtMs > client.patienceMs) throw gone(client, session, problem);
    await sleep(pauseMs);
    await client.relocate();
  }
}

function openStream(
  client: Client,
  session: string,
  position: number,
  options: FollowOptions,
): Promise<Response> {
  return client.open(`/v1/sessions/${session}/events/stream`, {
    query: options.previews ? { 'event_deltas[]': ['agent.message', 'agent.thinking'] } : {},
    headers: { 'last-event-id': String(position), accept: 'text/event-stream' },
    signal: options.signal,
  });
}

function gone(client: Client, session: string, problem: unknown): Refused {
  return new Refused(unreachable(client.url, problem).message, {
    hint: `the session is safe; start the server and: scriptorium attach ${session}`,
  });
}

function read(data: string, id: string | null, seen: Set<string>): Followed | null {
  const body = JSON.parse(data) as JsonObject;
  if (typeof body.id !== 'string') return { kind: 'preview', frame: body };
  // Frames of one position may come again after a cut between them; a queued input comes again when it is taken up.
  const key = `${body.id} ${String(body.processed_at)}`;
  if (seen.has(key)) return null;
  seen.add(key);
  return { kind: 'event', event: body as SessionEvent, seq: id === null ? null : Number(id) };
}
