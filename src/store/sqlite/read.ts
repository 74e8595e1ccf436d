/** Events as they are read back: payloads opened under the stream's key, or empty where the key is destroyed. */
import type { TextEvent } from '../as-text.ts';
import type { EventRow } from '../event-rows.ts';
import { openEvent, openLeaf } from '../event-rows.ts';
import type { Leaf } from '../store.ts';
import type { Database } from './database.ts';

export function read(
  database: Database,
  range: { stream: string; afterSeq: number; limit: number },
): TextEvent[] {
  const rows = database.statements.readEvents.all(range) as EventRow[];
  const key = database.keys.of(range.stream);
  return rows.map((row) => openEvent(row, key));
}

export function readById(database: Database, query: { stream: string; eventId: string }): TextEvent | null {
  const row = database.statements.readEvent.get(query) as EventRow | undefined;
  return row === undefined ? null : openEvent(row, database.keys.of(query.stream));
}

export function leaves(
  database: Database,
  range: { stream: string; afterSeq: number; limit: number },
): Leaf[] {
  const rows = database.statements.readEvents.all(range) as EventRow[];
  const key = database.keys.of(range.stream);
  return rows.map((row) => openLeaf(row, key));
}
