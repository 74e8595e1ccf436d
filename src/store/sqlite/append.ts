/**
 * One append, inside its own savepoint: checks first, then every row that changes together. Whatever is not `ok` is
 * rolled back by the caller, so a refusal never leaves a row.
 *
 * Promises kept here
 * - L3: fence and expected sequence are checked in the transaction that writes; outsiders have neither.
 * - L1: the summary is reduced from exactly the events as they will be read.
 * - G3, G4: reservation, outbox and leaf hashes are in the events' own transaction.
 */
import type { KeyObject } from 'node:crypto';
import type { JsonObject } from '../../protocol/json.ts';
import { eventSchemaVersion } from '../../session/events.ts';
import { leafHash, openText, sealPayload, sealText } from '../seal.ts';
import type { AppendResult, StoredEvent } from '../store.ts';
import type { Database } from './database.ts';
import { putResources } from './resources.ts';
import type { StreamRecord } from './streams.ts';
import { findStream } from './streams.ts';
import type { WireAppend, WireNewEvent } from './wire.ts';

/** The oldest schema version whose engine may drive a stream this release has written to. */
export const leastReaderVersion = 1;

export function append(database: Database, request: WireAppend, nowMs: number): AppendResult {
  const { stream } = request;
  const row = findStream(database, stream);
  const refused = check(database, request, row);
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

function tenantOf(request: WireAppend): { organization: string; project: string } {
  return { organization: request.organization, project: request.project };
}

/** The request key goes first: a repeated act gets its first answer whatever has happened to the stream since. */
function check(database: Database, request: WireAppend, row: StreamRecord | null): AppendResult | null {
  const { stream } = request;
  const isOurs = row !== null && row.organization === request.organization && row.project === request.project;
  if (isOurs && request.request !== undefined) {
    const earlier = earlierRequest(database, stream, request.request);
    if (earlier !== null) return earlier;
  }
  if (request.create) {
    return row === null ? null : { status: 'conflict', reason: 'exists', message: `${stream} exists` };
  }
  if (row === null || !isOurs)
    return { status: 'conflict', reason: 'missing', message: `there is no ${stream}` };
  if (row.erasedAt !== null) return { status: 'conflict', reason: 'missing', message: `${stream} is erased` };
  if (request.fence !== undefined && (row.owner === null || row.fence !== request.fence)) {
    return { status: 'fenced', fence: row.fence };
  }
  if (request.expectedSeq !== undefined && row.head !== request.expectedSeq) {
    return { status: 'moved', head: row.head };
  }
  return null;
}

function earlierRequest(
  { statements }: Database,
  stream: string,
  request: { key: string; hash: string },
): AppendResult | null {
  const earlier = statements.requestOf.get({ stream, key: request.key }) as
    | { hash: string; firstSeq: number; head: number }
    | undefined;
  if (earlier === undefined) return null;
  if (earlier.hash === request.hash) {
    return { status: 'duplicate', firstSeq: earlier.firstSeq, head: earlier.head };
  }
  return {
    status: 'conflict',
    reason: 'request',
    message: 'the same request key came before with another request',
  };
}

function createStream(
  { statements, keys }: Database,
  request: WireAppend,
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
  request: WireAppend,
  row: StreamRecord | null,
  time: string,
): { sealed: Uint8Array | null; members: JsonObject } {
  const { stream } = request;
  const key = database.keys.of(stream);
  if (key === null) throw new Error(`${stream} has no key`);
  const sealedBefore = row?.summary ?? null;
  let summary =
    sealedBefore === null
      ? null
      : (JSON.parse(openText(key, [stream, 'summary'], sealedBefore)) as JsonObject);
  let seq = row?.head ?? 0;
  for (const event of request.events) {
    seq += 1;
    const stored = writeEvent(database, request, key, event, seq, time);
    summary = database.summarize(summary, stored);
  }
  if (summary === null) return { sealed: null, members: {} };
  return { sealed: sealText(key, [stream, 'summary'], JSON.stringify(summary)), members: summary };
}

function writeEvent(
  { statements }: Database,
  request: WireAppend,
  key: KeyObject,
  event: WireNewEvent,
  seq: number,
  time: string,
): StoredEvent {
  const { stream } = request;
  const { public: publicText, private: privateText, ...clear } = event;
  const publicValue = JSON.parse(publicText) as JsonObject;
  const privateValue = privateText === null ? null : (JSON.parse(privateText) as JsonObject);
  const visible = sealPayload(key, [stream, event.id, 'public'], publicText, publicValue);
  const hidden =
    privateText === null ? null : sealPayload(key, [stream, event.id, 'private'], privateText, privateValue);
  const header = {
    ...clear,
    ...tenantOf(request),
    stream,
    seq,
    schemaVersion: eventSchemaVersion,
    time,
    fence: request.fence ?? null,
  };
  const leaf = leafHash(header, {
    public: Buffer.from(visible.commitment).toString('hex'),
    private: hidden === null ? null : Buffer.from(hidden.commitment).toString('hex'),
  });
  statements.insertEvent.run({
    ...header,
    publicCommitment: visible.commitment,
    privateCommitment: hidden?.commitment ?? null,
    leafHash: leaf,
    public: visible.sealed,
    private: hidden?.sealed ?? null,
  });
  const leafHex = Buffer.from(leaf).toString('hex');
  return { ...header, public: publicValue, private: privateValue, leafHash: leafHex, erased: false };
}

function writeStream(
  { statements }: Database,
  request: WireAppend,
  next: { head: number; timeMs: number; summary: { sealed: Uint8Array | null; members: JsonObject } },
): void {
  const member = (name: string): string | null => {
    const value = next.summary.members[name];
    return typeof value === 'string' ? value : null;
  };
  statements.advanceStream.run({
    stream: request.stream,
    head: next.head,
    lastTimeMs: next.timeMs,
    leastReader: leastReaderVersion,
    wakeAt: request.wakeAt ?? null,
    kind: member('kind'),
    agentId: member('agent_id'),
    status: member('status'),
    archivedAt: member('archived_at'),
    summary: next.summary.sealed,
  });
}

function writeRequest({ statements }: Database, request: WireAppend, firstSeq: number, head: number): void {
  if (request.request === undefined) return;
  const { key, hash } = request.request;
  statements.insertRequest.run({ ...tenantOf(request), stream: request.stream, key, hash, firstSeq, head });
}

/** Reserving an id twice, or settling what is not open, is the caller's bug: nothing of the append happens. */
function writeReservation({ statements }: Database, request: WireAppend, time: string): void {
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
    statements.eraseStream.run({ stream, erasedAt: time });
  } finally {
    db.exec('PRAGMA secure_delete = FAST');
  }
}
