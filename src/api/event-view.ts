/**
 * A stored event as clients see it: the public payload, with `id`, `type` and `processed_at` joined. Private payloads
 * and internal events end here.
 */
import type { JsonObject } from '../protocol/json.ts';
import type { StoredEvent } from '../store/store.ts';

/** Inputs that wait in the queue: null until an `input.processed` names them. All others are processed on receipt. */
const queuedTypes = new Set(['user.message', 'user.interrupt']);

export function isQueued(type: string): boolean {
  return queuedTypes.has(type);
}

export type Viewer = {
  /** `operator` sees what the driver recorded beside the protocol's own events. */
  audience: 'public' | 'operator';
  /** Only what belongs to this thread or to the whole session. */
  thread: string | null;
};

export function isVisible(event: StoredEvent, viewer: Viewer): boolean {
  if (event.audience === 'internal') return false;
  if (event.audience === 'operator' && viewer.audience !== 'operator') return false;
  if (viewer.thread !== null && event.thread !== null && event.thread !== viewer.thread) return false;
  // Of an erased log only the tombstone can still be shown.
  return !event.erased || event.type === 'session.deleted';
}

/** What a view needs of an event. */
export type Viewed = Pick<StoredEvent, 'id' | 'type' | 'public' | 'time'>;

export function viewOf(event: Viewed, processedAt: string | null): JsonObject {
  return { ...event.public, id: event.id, type: event.type, processed_at: processedAt };
}

/** The view at the moment of its append. */
export function freshViewOf(event: Viewed): JsonObject {
  return viewOf(event, isQueued(event.type) ? null : event.time);
}

/** The inputs an `input.processed` event names; empty for any other event. */
export function processedBy(event: StoredEvent): string[] {
  if (event.type !== 'input.processed' || !Array.isArray(event.public.event_ids)) return [];
  return event.public.event_ids.filter((id) => typeof id === 'string');
}
