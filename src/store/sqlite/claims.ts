/** Who drives which stream, and when it has to be looked at. No clock lease: a process that is gone is reaped (L3). */
import { eventSchemaVersion } from '../../session/events.ts';
import type { Claim } from '../store.ts';
import type { Database } from './database.ts';
import { findStream } from './streams.ts';

export function claim(
  { statements }: Database,
  { worker, limit }: { worker: string; limit: number },
  nowMs: number,
): Claim[] {
  return statements.claim.all({ worker, limit, nowMs, reader: eventSchemaVersion }) as Claim[];
}

export function claimStream(
  { statements }: Database,
  { worker, stream }: { worker: string; stream: string },
): Claim | null {
  const claimed = statements.claimStream.get({ worker, stream, reader: eventSchemaVersion });
  return (claimed as Claim | undefined) ?? null;
}

/** Refused where the head moved, so that nothing slips in between the owner's last fold and its sleep. */
export function release(
  database: Database,
  request: { stream: string; fence: number; seenHead: number; wakeAt: number | null },
): 'ok' | 'moved' | 'fenced' {
  const { stream, fence, seenHead, wakeAt } = request;
  const row = findStream(database, stream);
  if (row === null || row.owner === null || row.fence !== fence) return 'fenced';
  if (row.head !== seenHead) return 'moved';
  database.statements.release.run({ stream, wakeAt });
  return 'ok';
}

export function reap(
  { statements }: Database,
  { livingWorkers }: { livingWorkers: string[] },
  nowMs: number,
): number {
  return Number(statements.reap.run({ livingWorkers: JSON.stringify(livingWorkers), nowMs }).changes);
}

export function nextWakeAt({ statements }: Database): number | null {
  const row = statements.nextWakeAt.get({ reader: eventSchemaVersion }) as { wakeAt: number } | undefined;
  return row?.wakeAt ?? null;
}
