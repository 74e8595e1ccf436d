/**
 * A reducer for the tests of stores: counts events and takes over the members the store indexes from payloads that
 * carry them.
 */
import type { JsonObject } from '../../protocol/json.ts';
import type { StoredEvent } from '../store.ts';

export function summarize(summary: JsonObject | null, event: StoredEvent): JsonObject {
  if (event.type === 'test.summary_fails') throw new Error('the reducer was asked to fail');
  const before = summary ?? {
    kind: 'session',
    agent_id: null,
    status: 'idle',
    archived_at: null,
    count: 0,
    trail: '',
  };
  const set = event.public.set;
  return {
    ...before,
    ...(typeof set === 'object' && set !== null && !Array.isArray(set) ? set : {}),
    count: Number(before.count) + 1,
    lastId: event.id,
    lastTime: event.time,
    // Reads the private payload too, so that a reducer that sees other events than readers do is found out.
    trail: `${String(before.trail)}${String(event.private?.mark ?? '.')}`.slice(-64),
  };
}
