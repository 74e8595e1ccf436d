/**
 * Replays a session's log and derives every model request anew: L7 as a check that anyone can run. Nothing is called and
 * nothing is written; what is compared are the hashes that were committed with each intent.
 */
import type { Model } from '../model/model.ts';
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
  firstDifference: { seq: number; eventId: string; recordedSha256: string; derivedSha256: string } | null;
  /** True where the session was deleted: there is nothing left to replay. */
  isErased: boolean;
};

const batch = 1_000;

/** `renderer` gives the wire that the session was rendered with; it is asked once for each request. */
export async function replaySession(
  store: Store,
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
        const { requestSha256, model } = event.private;
        if (requestSha256 === '') replay.unrendered++;
        else {
          replay.requests++;
          const derivedSha256 = renderer(model).render(requestOf(state)).sha256;
          const difference = {
            seq: event.seq,
            eventId: event.id,
            recordedSha256: requestSha256,
            derivedSha256,
          };
          if (derivedSha256 !== requestSha256) replay.firstDifference ??= difference;
        }
      }
      state = fold(state, event);
    }
    replay.events += events.length;
    if (events.length < batch) return replay;
  }
}
