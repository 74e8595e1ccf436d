/**
 * Preview frames on their way to one connection (managed-agents-protocol.md §5.2), with the promises a client builds on:
 *
 * - at most one `event_start` per id, and no delta before it;
 * - what was let go stays let go: after one lost delta no later one of that id is sent, so the text is always a prefix;
 * - nothing of an id after its authoritative event;
 * - never more than `capacity` frames are held (a reader may stall).
 */
import type { PreviewFrame, PreviewType } from '../protocol/previews.ts';

/** Ids remembered per connection; a model has a handful of outputs under way at a time. */
const remembered = 64;

export class PreviewQueue {
  #frames: PreviewFrame[] = [];
  readonly #started = new Set<string>();
  readonly #finished = new Set<string>();
  readonly #wanted: ReadonlySet<PreviewType>;
  readonly #capacity: number;

  constructor(wanted: ReadonlySet<PreviewType>, capacity: number) {
    this.#wanted = wanted;
    this.#capacity = capacity;
  }

  /** Returns whether the frame was taken. */
  push(frame: PreviewFrame): boolean {
    const id = idOf(frame);
    if (this.#finished.has(id)) return false;
    if (frame.type === 'event_start') {
      if (!this.#wanted.has(frame.event.type) || this.#started.has(id) || this.#isFull()) return false;
      remember(this.#started, id);
    } else if (!this.#started.has(id)) {
      return false;
    } else if (this.#isFull()) {
      // Shed the rest of this id: a gap in the middle would be worse than an early end.
      this.#started.delete(id);
      remember(this.#finished, id);
      return false;
    }
    this.#frames.push(frame);
    return true;
  }

  /** The authoritative event of `id` is about to be sent. */
  finish(id: string): void {
    this.#started.delete(id);
    remember(this.#finished, id);
    this.#frames = this.#frames.filter((frame) => idOf(frame) !== id);
  }

  take(): PreviewFrame[] {
    const taken = this.#frames;
    this.#frames = [];
    return taken;
  }

  #isFull(): boolean {
    return this.#frames.length >= this.#capacity;
  }
}

function idOf(frame: PreviewFrame): string {
  return frame.type === 'event_start' ? frame.event.id : frame.event_id;
}

function remember(ids: Set<string>, id: string): void {
  ids.add(id);
  if (ids.size > remembered) ids.delete(ids.values().next().value as string);
}
