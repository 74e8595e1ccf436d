/** Who drives which stream, and when it has to be looked at (L3). Who is dead is found in `membership.ts`. */
import { eventSchemaVersion } from '../../session/events.ts';
import type { Claim } from '../store.ts';
import type { Database } from './database.ts';
import { run } from './statements.ts';

/** Streams that others are writing to at this moment are passed over: their commit wakes whoever claims next. */
export async function claim({ pool, nowMs }: Database, worker: string, limit: number): Promise<Claim[]> {
  const values = [worker, Math.floor(nowMs()), limit, eventSchemaVersion];
  return pool.use((connection) => run<Claim>(connection, 'claim', values));
}

export async function claimStream({ pool }: Database, worker: string, stream: string): Promise<Claim | null> {
  const values = [worker, stream, eventSchemaVersion];
  const [claim] = await pool.use((connection) => run<Claim>(connection, 'claimStream', values));
  return claim ?? null;
}

/** Refused where the head moved, so that nothing slips in between the owner's last fold and its sleep. */
export async function release(
  { pool }: Database,
  stream: string,
  fence: number,
  seen: { head: number; wakeAt: number | null },
): Promise<'ok' | 'moved' | 'fenced'> {
  const wakeAt = seen.wakeAt === null ? null : Math.floor(seen.wakeAt);
  return pool.use(async (connection) => {
    const released = await run(connection, 'release', [stream, fence, seen.head, wakeAt]);
    if (released.length > 0) return 'ok';
    const owned = await run(connection, 'ownership', [stream, fence]);
    return owned.length > 0 ? 'moved' : 'fenced';
  });
}

export async function nextWakeAt({ pool }: Database): Promise<number | null> {
  const [row] = await pool.use((connection) =>
    run<{ wakeAt: number }>(connection, 'nextWakeAt', [eventSchemaVersion]),
  );
  return row?.wakeAt ?? null;
}
