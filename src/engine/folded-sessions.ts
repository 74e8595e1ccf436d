/**
 * The folded states of sessions that are busy just now, shared by the API and the engine of one process: a send and the
 * turn that it starts cost the events since, not the whole log. A state is a pure value of a log's prefix (L7), so what
 * one has folded is right for the other; throwing all of it away changes nothing.
 *
 * A session that sleeps holds no memory: what nobody asked for during `idleMs` is forgotten.
 */
import { type Folded, fold } from '../session/fold.ts';
import { initialState, type SessionState } from '../session/state.ts';
import type { Store, StoredEvent } from '../store/store.ts';

type Entry = { state: SessionState; usedMs: number };

const pageSize = 1_000;

export class FoldedSessions {
  readonly #store: Pick<Store, 'read'>;
  readonly #capacity: number;
  readonly #idleMs: number;
  /** Insertion order is age: a map is enough of an LRU. */
  readonly #recent = new Map<string, Entry>();
  #sweep: NodeJS.Timeout | null = null;

  constructor(store: Pick<Store, 'read'>, options: { capacity?: number; idleMs?: number } = {}) {
    this.#store = store;
    this.#capacity = options.capacity ?? 32;
    this.#idleMs = options.idleMs ?? 30_000;
  }

  get size(): number {
    return this.#recent.size;
  }

  /** What is known of the session: a state of some prefix of its log, the empty one at worst. */
  known(session: string): SessionState {
    return this.#recent.get(session)?.state ?? initialState;
  }

  /** The state at the head of the log, as far as it is readable now. */
  async fold(session: string): Promise<SessionState> {
    let state = this.known(session);
    for (;;) {
      const events = await this.#store.read(session, state.seq, pageSize);
      for (const event of events) state = foldStored(state, event);
      if (events.length < pageSize) break;
    }
    this.learn(session, state);
    return state;
  }

  /** Keeps a state that somebody has folded, unless a later one is known. */
  learn(session: string, state: SessionState): void {
    const before = this.#recent.get(session)?.state;
    this.#recent.delete(session);
    if (state.isDeleted) return;
    const newest = before && before.seq > state.seq ? before : state;
    this.#recent.set(session, { state: newest, usedMs: performance.now() });
    if (this.#recent.size > this.#capacity) this.#recent.delete(this.#recent.keys().next().value as string);
    this.#sweep ??= setTimeout(() => this.#forgetIdle(), this.#idleMs).unref();
  }

  #forgetIdle(): void {
    this.#sweep = null;
    const limitMs = performance.now() - this.#idleMs;
    for (const [session, { usedMs }] of this.#recent) if (usedMs <= limitMs) this.#recent.delete(session);
    if (this.#recent.size > 0) this.#sweep = setTimeout(() => this.#forgetIdle(), this.#idleMs).unref();
  }
}

/** The store reads no payloads; here they get their types back. They were written by this program's own drafts. */
export function foldStored(state: SessionState, event: StoredEvent): SessionState {
  // An erased log has no payloads to fold; all that is left to know of it is that it was deleted.
  if (event.erased && event.type !== 'session.deleted') return { ...state, seq: event.seq };
  return fold(state, event as unknown as Folded);
}
