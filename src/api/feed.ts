/**
 * Who waits for which stream: one subscription to the store for all connections of this process. It carries no events,
 * only "there is something up to here"; readers take events from the log at their own pace (L2), so a slow one holds
 * back nobody and nothing is buffered for it.
 */
import type { Store } from '../store/store.ts';

export type EventFeed = {
  /** Calls back after each append to `stream`. Returns the unsubscriber. */
  watch(stream: string, listener: () => void): () => void;
};

export function eventFeed(store: Pick<Store, 'onAppend'>): EventFeed {
  const listeners = new Map<string, Set<() => void>>();
  store.onAppend((touched) => {
    for (const { stream } of touched) {
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
  };
}
