/**
 * The summary reducer as the store wants it: with the members it indexes (`kind`, `agentId`, `status`, `archivedAt`)
 * beside the session's own.
 */
import type { JsonObject } from '../../src/protocol/json.ts';
import { summarize as reduce } from '../../src/session/summary.ts';

type Seen = Parameters<typeof reduce>[1];

export function summarize(summary: JsonObject | null, event: Seen): JsonObject {
  const next = reduce(summary, event);
  if (typeof next.thread_id !== 'string' || next.thread_id === '') return next;
  return { ...next, kind: 'session', agentId: next.agent_id ?? null, archivedAt: next.archived_at ?? null };
}
