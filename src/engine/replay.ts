/**
 * Replays a session's log and derives every model request anew: L7 as a check that anyone can run. Nothing is called and
 * nothing is written; what is compared are the hashes that were committed with each intent.
 */
import { setImmediate } from 'node:timers/promises';
import type { Model } from '../model/model.ts';
import type { Stored } from '../session/events.ts';
import { fold } from '../session/fold.ts';
import { requestOf } from '../session/render.ts';
import { initialState } from '../session/state.ts';
import type { Store } from '../store/store.ts';
import { asStored } from './drive.ts';

export type Replay = {
  session: string;
  events: number;
  /** Model requests derived and compared. */
  requests: number;
  /** Requests that were never rendered, because no provider was configured then. */
  unrendered: number;
  /** The first that differs; later ones differ because of it, as a rule. */
  firstDifference: Difference | null;
  /** True where the session was deleted: there is nothing left to replay. */
  isErased: boolean;
};

export type Difference = {
  /** Which of the session's requests, from 1. */
  request: number;
  seq: number;
  eventId: string;
  recordedSha256: string;
  derivedSha256: string;
};

const batch = 500;

/** `renderer` gives the wire that the session was rendered with; it is asked once for each request. */
export async function replaySession(
  store: Pick<Store, 'read'>,
  session: string,
  renderer: (model: string) => Model,
): Promise<Replay> {
  const replay: Replay = {
    session,
    events: 0,
    requests: 0,
    unrendered: 0,
    firstDifference: null,
    isErased: false,
  };
  let state = initialState;
  for (;;) {
    const events = await store.read(session, state.seq, batch);
    for (const stored of events) {
      if (stored.erased) return { ...replay, isErased: true };
      const event = asStored(stored);
      if (event.type === 'model.intent') {
        if (event.private.requestSha256 === '') replay.unrendered++;
        else
          await compare(replay, event, () => renderer(event.private.model).render(requestOf(state)).sha256);
      }
      state = fold(state, event);
    }
    replay.events += events.length;
    if (events.length < batch) return replay;
  }
}

type Intent = Extract<Stored, { type: 'model.intent' }>;

async function compare(replay: Replay, intent: Intent, derive: () => string): Promise<void> {
  replay.requests++;
  const derivedSha256 = derive();
  const recordedSha256 = intent.private.requestSha256;
  if (derivedSha256 !== recordedSha256) {
    const { seq, id: eventId } = intent;
    replay.firstDifference ??= { request: replay.requests, seq, eventId, recordedSha256, derivedSha256 };
  }
  // A long session has many long requests; whoever else is served here comes in between.
  await setImmediate();
}
