/** Folded states as they are kept and read back: a cache, sealed under the stream's key. */
import { snapshotOf } from '../as-text.ts';
import { openSnapshot, sealSnapshot } from '../seal.ts';
import type { Snapshot } from '../store.ts';
import type { Database } from './database.ts';
import { run } from './statements.ts';

type Row = { seq: number; reader: number; data: Uint8Array; wrapped: Uint8Array };

export async function saveSnapshot(
  { pool, keys }: Database,
  stream: string,
  { seq, reader, data }: Snapshot,
): Promise<void> {
  const text = JSON.stringify(data);
  await pool.use(async (connection) => {
    const key = await keys.of(connection, stream);
    if (key === null) return;
    const sealed = sealSnapshot(key, stream, { seq, reader, data: text });
    await run(connection, 'saveSnapshot', [stream, seq, reader, sealed]);
  });
}

export async function snapshot({ pool, keys }: Database, stream: string): Promise<Snapshot | null> {
  const [row] = await pool.use((connection) => run<Row>(connection, 'snapshotOf', [stream]));
  if (row === undefined) return null;
  const { wrapped, ...sealed } = row;
  return snapshotOf(openSnapshot(() => keys.unwrap(stream, wrapped), stream, sealed));
}
