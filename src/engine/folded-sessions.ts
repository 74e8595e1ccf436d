/**
 * The folded states of sessions that are busy just now, shared by the API and the engine of one process: a send and the
 * turn that it starts cost the events since, not the whole log. A state is a pure value of a log's prefix (L7), so what
 * one has folded is right for the other; throwing all of it away changes nothing.
 *
 * A session that sleeps holds no memory: what nobody asked for during `idleMs` is forgotten. A long log that nobody knows
 * any more is begun at its snapshot, where there is one that this release can read; deleting them all changes nothing.
 */
import { type Folded, fold } from '../session/fold.ts';
import { decodeState, encodeState, snapshotReader } from '../session/snapshot.ts';
import { initialState, type SessionState } from '../session/state.ts';
import type { Store, StoredEvent } from '../store/store.ts';

export type Recalled = {
  state: SessionState;
  /** What the stored snapshot has folded, as far as is known here; 0: there is none that is of use. */
  snapshotSeq: number;
};

type Entry = Recalled & { usedMs: number };

type Source = Pick<Store, 'read' | 'snapshot' | 'saveSnapshot'>;

const pageSize = 1_000;
/** So many events are folded sooner than a snapshot is fetched, and one is kept after so many. */
const snapshotEvery = 500;

export class FoldedSessions {
  readonly #store: Source;
  readonly #capacity: number;
  readonly #idleMs: number;
  /** Insertion order is age: a map is enough of an LRU. */
  readonly #recent = new Map<string, Entry>();
  readonly #saving = new Set<Promise<void>>();
  #sweep: NodeJS.Timeout | null = null;

  constructor(store: Source, options: { capacity?: number; idleMs?: number } = {}) {
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
    // How long the log is, nobody knows yet: where nothing is known of it, its snapshot is one small question.
    let { state } = await this.recall(session, this.known(session).seq === 0 ? null : 0);
    for (;;) {
      const events = await this.#store.read(session, state.seq, pageSize);
      for (const event of events) state = foldStored(state, event);
      if (events.length < pageSize) break;
    }
    this.learn(session, state);
    return state;
  }

  /**
   * Where to begin folding a log with this head (null: unknown): at what is known, or at the snapshot where that saves
   * folding many events. A snapshot that cannot be had or read is done without.
   */
  async recall(session: string, head: number | null): Promise<Recalled> {
    const { state, snapshotSeq } = this.#recent.get(session) ?? { state: initialState, snapshotSeq: 0 };
    if (head !== null && head - state.seq < snapshotEvery) return { state, snapshotSeq };
    const restored = await this.#restore(session).catch(() => null);
    if (restored === null) return { state, snapshotSeq };
    const recalled = { state: restored.seq > state.seq ? restored : state, snapshotSeq: restored.seq };
    this.learn(session, recalled.state, restored.seq);
    return recalled;
  }

  async #restore(session: string): Promise<SessionState | null> {
    const snapshot = await this.#store.snapshot(session);
    if (snapshot === null || snapshot.reader !== snapshotReader) return null;
    const state = decodeState(snapshot.data);
    return state?.seq === snapshot.seq ? state : null;
  }

  /**
   * The session rests at this state, which is in the log to the last event. Long after its last snapshot it gets another
   * one, in the background: whoever fails to write it has lost nothing.
   */
  rested(session: string, { state, snapshotSeq }: Recalled): void {
    const lastSeq = Math.max(snapshotSeq, this.#recent.get(session)?.snapshotSeq ?? 0);
    if (state.seq - lastSeq < snapshotEvery || state.isDeleted) return;
    this.learn(session, state, state.seq);
    const saving = this.#save(session, state)
      .catch(() => undefined)
      .finally(() => this.#saving.delete(saving));
    this.#saving.add(saving);
  }

  /** Once what is being written in the background is written, or has failed. */
  async settled(): Promise<void> {
    await Promise.all(this.#saving);
  }

  async #save(session: string, state: SessionState): Promise<void> {
    // After whatever is waiting to be done: a snapshot is nobody's hurry.
    await new Promise((resolve) => setImmediate(resolve));
    await this.#store.saveSnapshot(session, {
      seq: state.seq,
      reader: snapshotReader,
      data: encodeState(state),
    });
  }

  /** Keeps a state that somebody has folded, unless a later one is known. */
  learn(session: string, state: SessionState, snapshotSeq = 0): void {
    const before = this.#recent.get(session);
    this.#recent.delete(session);
    if (state.isDeleted) return;
    const newest = before && before.state.seq > state.seq ? before.state : state;
    this.#recent.set(session, {
      state: newest,
      snapshotSeq: Math.max(snapshotSeq, before?.snapshotSeq ?? 0),
      usedMs: performance.now(),
    });
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
