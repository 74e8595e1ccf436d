/** A session's checkpoints as clients see them, from its folded state. */
import type { JsonObject } from '../../../protocol/json.ts';
import type { KeptCheckpoint, Mark, SessionState } from '../../../session/state.ts';

/** Oldest first: those that are there, the one being made, those asked for, the latest failures. */
export function checkpointViews(session: string, { checkpoints }: SessionState): JsonObject[] {
  const { kept, making, requests, failed } = checkpoints;
  return [
    ...failed.map(({ id, message }) => ({ ...blank(session, id), status: 'failed', message })),
    ...kept.map((one) => keptView(session, one)),
    ...(making ? [{ ...blank(session, making.id), ...placeOf(making) }] : []),
    ...requests.map((id) => requestedView(session, id)),
  ];
}

export function requestedView(session: string, id: string): JsonObject {
  return { ...blank(session, id), reason: 'requested' };
}

function keptView(session: string, one: KeptCheckpoint): JsonObject {
  return {
    ...blank(session, one.id),
    ...placeOf(one),
    status: 'ready',
    is_on_line: one.isOnLine,
    driver: one.driver,
    size_bytes: one.sizeBytes,
    files: one.files,
    took_ms: one.tookMs,
    created_at: one.madeAt,
  };
}

function placeOf({ reason, eventId }: Mark): JsonObject {
  return { reason, at_event_id: eventId };
}

function blank(session: string, id: string): JsonObject {
  return {
    ...{ type: 'checkpoint', id, session_id: session, status: 'pending', reason: 'turn_end' },
    ...{ at_event_id: null, is_on_line: true, driver: null, size_bytes: null, files: null },
    ...{ took_ms: null, message: null, created_at: null },
  };
}
