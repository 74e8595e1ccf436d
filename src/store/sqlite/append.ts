/**
 * One append, inside its own savepoint: checks first, then every row that changes together. Whatever is not `ok` is
 * rolled back by the caller, so a refusal never leaves a row.
 *
 * Promises kept here
 * - L3: fence and expected sequence are checked in the transaction that writes; outsiders have neither.
 * - L1: the summary is reduced from exactly the events as they will be read.
 * - G3, G4: reservation, outbox and leaf hashes are in the events' own transaction.
 */
import type { SQLInputValue } from 'node:sqlite';
import type { JsonObject } from '../../protocol/json.ts';
import type { Earlier, StreamState } from '../admission.ts';
import { refusalOf } from '../admission.ts';
import type { TextAppend } from '../as-text.ts';
import type { EventRow } from '../event-rows.ts';
import { leastReaderVersion, sealEvents } from '../event-rows.ts';
import { sealText } from '../seal.ts';
import type { AppendResult } from '../store.ts';
import type { Database } from './database.ts';
import { putResources } from './resources.ts';
import { findStream } from './streams.ts';

export function append(database: Database, request: TextAppend, nowMs: number): AppendResult {
  const { stream } = request;
  const row = findStream(database, stream);
  const refused = refusalOf(request, row, () => earlierRequest(database, stream, request.request?.key ?? ''));
  if (refused !== null) return refused;
  const timeMs = Math.max(nowMs, row?.lastTimeMs ?? 0);
  const time = new Date(timeMs).toISOString();
  if (row === null) createStream(database, request, timeMs, time);
  const conflict = putResources(database, request);
  if (conflict !== null) return conflict;

  const firstSeq = (row?.head ?? 0) + 1;
  const head = firstSeq + request.events.length - 1;
  const summary = writeEvents(database, request, row, time);
  writeStream(database, request, { head, timeMs, summary });
  writeRequest(database, request, firstSeq, head);
  writeReservation(database, request, time);
  for (const message of request.outbox) {
    database.statements.insertOutbox.run({ ...tenantOf(request), stream, ...message });
  }
  if (request.eraseStream) erase(database, stream, time);
  return { status: 'ok', firstSeq, head, time };
}

function tenantOf(request: TextAppend): { organization: string; project: string } {
  return { organization: request.organization, project: request.project };
}

function earlierRequest({ statements }: Database, stream: string, key: string): Earlier | null {
  return (statements.requestOf.get({ stream, key }) as Earlier | undefined) ?? null;
}

function createStream(
  { statements, keys }: Database,
  request: TextAppend,
  timeMs: number,
  time: string,
): void {
  const tenant = tenantOf(request);
  keys.create(tenant, request.stream);
  statements.insertStream.run({
    ...tenant,
    stream: request.stream,
    createdAt: time,
    lastTimeMs: timeMs,
    leastReader: leastReaderVersion,
  });
}

function writeEvents(
  database: Database,
  request: TextAppend,
  row: StreamState | null,
  time: string,
): { sealed: Uint8Array | null; members: JsonObject } {
  const { stream } = request;
  const { keys, statements, summaries, summarize } = database;
  const key = keys.of(stream);
  if (key === null) throw new Error(`${stream} has no key`);
  const head = row?.head ?? 0;
  const before = head === 0 ? null : summaries.at(stream, head, key);
  const { rows, summary } = sealEvents(request, { key, head, time, summary: before, summarize });
  for (const event of rows) statements.insertEvent.run(...valuesOf(event));
  if (summary === null) return { sealed: null, members: {} };
  summaries.remember(stream, head + rows.length, summary);
  return { sealed: sealText(key, [stream, 'summary'], JSON.stringify(summary)), members: summary };
}

/** In the order of `insertEvent`'s columns. */
function valuesOf(row: EventRow): SQLInputValue[] {
  return [
    row.organization,
    row.project,
    row.stream,
    row.seq,
    row.id,
    row.type,
    row.schemaVersion,
    row.time,
    row.actor,
    row.thread,
    row.turn,
    row.call,
    row.causation,
    row.fence,
    row.audience,
    row.publicCommitment,
    row.privateCommitment,
    row.leafHash,
    row.public,
    row.private,
  ];
}

function writeStream(
  { statements }: Database,
  request: TextAppend,
  next: { head: number; timeMs: number; summary: { sealed: Uint8Array | null; members: JsonObject } },
): void {
  const member = (name: string): string | null => {
    const value = next.summary.members[name];
    return typeof value === 'string' ? value : null;
  };
  statements.advanceStream.run(
    request.stream,
    next.head,
    next.timeMs,
    leastReaderVersion,
    request.wakeAt ?? null,
    member('kind'),
    member('agent_id'),
    member('status'),
    member('archived_at'),
    next.summary.sealed,
  );
}

function writeRequest({ statements }: Database, request: TextAppend, firstSeq: number, head: number): void {
  if (request.request === undefined) return;
  const { key, hash } = request.request;
  statements.insertRequest.run({ ...tenantOf(request), stream: request.stream, key, hash, firstSeq, head });
}

/** Reserving an id twice, or settling what is not open, is the caller's bug: nothing of the append happens. */
function writeReservation({ statements }: Database, request: TextAppend, time: string): void {
  const { reservation, stream } = request;
  if (reservation === undefined) return;
  const tenant = tenantOf(request);
  if (reservation.op === 'reserve') {
    const { id, amountMicros } = reservation;
    statements.reserve.run({ ...tenant, stream, id, amountMicros, time });
    return;
  }
  const { id, costMicros } = reservation;
  const { changes } = statements.settle.run({ ...tenant, id, costMicros, time });
  if (changes !== 1) throw new Error(`there is no open reservation ${id} to settle`);
}

/** The key's bytes are overwritten, not only unlinked; the checkpoint after the commit clears them from the WAL. */
function erase({ db, statements, keys }: Database, stream: string, time: string): void {
  db.exec('PRAGMA secure_delete = ON');
  try {
    keys.destroy(stream);
    statements.eraseEvents.run({ stream });
    statements.eraseSnapshot.run({ stream });
    statements.eraseStream.run({ stream, erasedAt: time });
  } finally {
    db.exec('PRAGMA secure_delete = FAST');
  }
}
