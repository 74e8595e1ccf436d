/** Events as they are read back: payloads opened under the stream's key, or empty where the key is destroyed. */
import type { KeyObject } from 'node:crypto';
import { eventOf } from '../as-text.ts';
import type { EventRow } from '../event-rows.ts';
import { openEvent, openLeaf } from '../event-rows.ts';
import type { Leaf, StoredEvent } from '../store.ts';
import type { Database } from './database.ts';
import type { StatementName } from './statements.ts';
import { run } from './statements.ts';

export async function read(
  database: Database,
  stream: string,
  afterSeq: number,
  limit: number,
): Promise<StoredEvent[]> {
  const { rows, key } = await rowsAndKey(database, 'readEvents', [stream, afterSeq, limit]);
  return rows.map((row) => eventOf(openEvent(row, key)));
}

export async function readById(
  database: Database,
  stream: string,
  eventId: string,
): Promise<StoredEvent | null> {
  const { rows, key } = await rowsAndKey(database, 'readEvent', [stream, eventId]);
  return rows[0] === undefined ? null : eventOf(openEvent(rows[0], key));
}

export async function leaves(
  database: Database,
  stream: string,
  afterSeq: number,
  limit: number,
): Promise<Leaf[]> {
  const { rows, key } = await rowsAndKey(database, 'readEvents', [stream, afterSeq, limit]);
  return rows.map((row) => openLeaf(row, key));
}

/** A key that is destroyed between the two statements leaves rows that read as erased, which they are by then. */
function rowsAndKey(
  { pool, keys }: Database,
  statement: StatementName,
  values: [stream: string, ...rest: unknown[]],
): Promise<{ rows: EventRow[]; key: KeyObject | null }> {
  const [stream] = values;
  return pool.use(async (connection) => {
    const rows = await run<EventRow>(connection, statement, values);
    if (rows.some((row) => row.public === null)) keys.forget(stream);
    return { rows, key: rows.length === 0 ? null : await keys.of(connection, stream) };
  });
}
