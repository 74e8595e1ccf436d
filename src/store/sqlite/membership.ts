/**
 * Who drives streams: workers of this process, and nobody else. A name lives until it leaves or the store ends; names of
 * earlier processes are dead by the lock on the directory.
 */
import { newId } from '../../protocol/ids.ts';
import type { JsonObject } from '../../protocol/json.ts';
import type { Membership, Worker } from '../store.ts';

export class Members {
  readonly #living = new Map<string, { info: JsonObject; lost: AbortController }>();

  join(info: JsonObject): Membership {
    const worker = newId('worker');
    const lost = new AbortController();
    this.#living.set(worker, { info, lost });
    const leave = async (): Promise<void> => {
      this.#living.delete(worker);
    };
    return { worker, lost: lost.signal, leave };
  }

  living(): Worker[] {
    return [...this.#living].map(([worker, { info }]) => ({ worker, info }));
  }

  /** The database is gone: nobody can append under a fence any more. */
  loseAll(reason: Error): void {
    for (const { lost } of this.#living.values()) lost.abort(reason);
    this.#living.clear();
  }
}
