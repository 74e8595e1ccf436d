/**
 * The folded state of a session, to ask whether it takes an input. A state is a pure value of a log's prefix (L7), so
 * the last ones are kept and only what came since is folded: a send costs the events since the previous one.
 */
import type { Folded } from '../session/fold.ts';
import { fold } from '../session/fold.ts';
import type { SessionState } from '../session/state.ts';
import { initialState } from '../session/state.ts';
import type { Store, StoredEvent } from '../store/store.ts';

export type SessionFolder = { fold(session: string): Promise<SessionState> };

const pageSize = 500;

export function sessionFolder(store: Pick<Store, 'read'>, capacity = 32): SessionFolder {
  // Insertion order is age: a map is enough of an LRU.
  const recent = new Map<string, SessionState>();
  return {
    async fold(session) {
      let state = recent.get(session) ?? initialState;
      for (;;) {
        const events = await store.read(session, state.seq, pageSize);
        for (const event of events) state = foldStored(state, event);
        if (events.length < pageSize) break;
      }
      recent.delete(session);
      if (!state.isDeleted) recent.set(session, state);
      if (recent.size > capacity) recent.delete(recent.keys().next().value as string);
      return state;
    },
  };
}

function foldStored(state: SessionState, event: StoredEvent): SessionState {
  // An erased log has no payloads to fold; all that is left to know of it is that it was deleted.
  if (event.erased && event.type !== 'session.deleted') return { ...state, seq: event.seq };
  // Stored types and payloads were written by this program's own drafts.
  return fold(state, event as unknown as Folded);
}
