/** Folded states as they are kept and read back: a cache, sealed under the stream's key. */
import type { TextSnapshot } from '../as-text.ts';
import { openSnapshot, sealSnapshot } from '../seal.ts';
import type { Database } from './database.ts';

export function saveSnapshot(
  { keys, statements }: Database,
  { stream, snapshot }: { stream: string; snapshot: TextSnapshot },
): null {
  const key = keys.of(stream);
  if (key === null) return null;
  const { seq, reader } = snapshot;
  statements.saveSnapshot.run({ stream, seq, reader, data: sealSnapshot(key, stream, snapshot) });
  return null;
}

export function snapshot(
  { keys, statements }: Database,
  { stream }: { stream: string },
): TextSnapshot | null {
  const row = statements.snapshotOf.get({ stream }) as
    | { seq: number; reader: number; data: Uint8Array }
    | undefined;
  return row === undefined ? null : openSnapshot(() => keys.of(stream), stream, row);
}
