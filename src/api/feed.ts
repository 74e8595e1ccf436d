/**
 * Who waits for which stream: one subscription to the store for all connections of this process. It tells only "there is
 * something up to here"; readers take events from the log at their own pace (L2), so a slow one holds back nobody and
 * nothing is buffered for it. Readers who want the same at the same time are given one read.
 */
import type { Store, StoredEvent } from '../store/store.ts';

export type EventFeed = {
  /** Calls back after each append to `stream`. Returns the unsubscriber. */
  watch(stream: string, listener: () => void): () => void;
  /** Events after `afterSeq`, at most `feedBatch`: one array for all who ask while it is being read, not to be changed. */
  read(stream: string, afterSeq: number): Promise<readonly StoredEvent[]>;
};

export const feedBatch = 100;

type Reads = Map<number, Promise<readonly StoredEvent[]>>;

export function eventFeed(store: Pick<Store, 'onAppend' | 'read'>): EventFeed {
  const listeners = new Map<string, Set<() => void>>();
  const underWay = new Map<string, Reads>();
  store.onAppend((touched) => {
    for (const { stream } of touched) {
      // Before anybody hears of it: a read that began earlier may not see this append, so nobody may join it now.
      underWay.delete(stream);
      for (const listener of listeners.get(stream) ?? []) listener();
    }
  });
  return {
    watch(stream, listener) {
      const here = listeners.get(stream) ?? new Set();
      listeners.set(stream, here.add(listener));
      return () => {
        here.delete(listener);
        if (here.size === 0 && listeners.get(stream) === here) listeners.delete(stream);
      };
    },
    read(stream, afterSeq) {
      const here: Reads = underWay.get(stream) ?? new Map();
      const joined = here.get(afterSeq);
      if (joined !== undefined) return joined;
      const reading = store.read(stream, afterSeq, feedBatch).finally(() => {
        here.delete(afterSeq);
        if (here.size === 0 && underWay.get(stream) === here) underWay.delete(stream);
      });
      underWay.set(stream, here.set(afterSeq, reading));
      return reading;
    },
  };
}
