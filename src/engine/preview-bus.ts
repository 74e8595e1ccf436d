/**
 * Previews from engines to streams of this process: nothing is kept, nobody waits, an absent listener costs nothing.
 */
import type { PreviewBus, PreviewFrame } from '../protocol/previews.ts';

export class LocalPreviews implements PreviewBus {
  readonly #listeners = new Map<string, Set<(frame: PreviewFrame) => void>>();

  subscribe(session: string, listener: (frame: PreviewFrame) => void): () => void {
    const listeners = this.#listeners.get(session) ?? new Set();
    listeners.add(listener);
    this.#listeners.set(session, listeners);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(session);
    };
  }

  publish(session: string, frame: PreviewFrame): void {
    for (const listener of this.#listeners.get(session) ?? []) listener(frame);
  }
}

/** An api that has an engine in its own process hears others, too. */
export function bothPreviews(one: PreviewBus, other: PreviewBus): PreviewBus {
  return {
    subscribe(session, listener) {
      const stops = [one.subscribe(session, listener), other.subscribe(session, listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
  };
}
