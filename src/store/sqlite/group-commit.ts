/**
 * Executes a batch of requests: all writes in one transaction and one fsync, each in its own savepoint, then the reads.
 *
 * Promises kept here
 * - L2: no reply exists before the commit that it reports; reads run after it, so nothing uncommitted is shown.
 * - L8: what fails alone fails alone. If the whole transaction fails, each write is tried again by itself, so that
 *   one that is too big for the disk does not take the others with it; what still fails says `unavailable`.
 */

import { failpointNow, failpoints } from '../../protocol/failpoint.ts';
import { append } from './append.ts';
import { claim, claimStream, nextWakeAt, reap, release } from './claims.ts';
import type { Database } from './database.ts';
import type { Failure } from './failures.ts';
import { failureOf } from './failures.ts';
import { ackOutbox, pendingOutbox, reservation } from './ledger.ts';
import { leaves, read, readById } from './read.ts';
import { listResources, resource, resourceByName } from './resources.ts';
import { saveSnapshot, snapshot } from './snapshots.ts';
import { listStreams, streamRow } from './streams.ts';
import type { OperationName, Operations, Reply, Request, RequestOf, Touched } from './thread/wire.ts';

type Handlers = {
  [K in OperationName]: (
    database: Database,
    args: Operations[K]['args'],
    nowMs: number,
  ) => Operations[K]['result'];
};

const handlers: Handlers = {
  append,
  claim,
  claimStream,
  release,
  reap,
  ackOutbox,
  read,
  readById,
  leaves,
  stream: (database, { tenant, stream }) => streamRow(database, tenant, stream),
  listStreams,
  resource,
  listResources,
  resourceByName,
  reservation,
  pendingOutbox,
  saveSnapshot,
  snapshot,
  nextWakeAt,
  // The worker closes the database once the batch is answered.
  close: () => null,
};

const writes = new Set<OperationName>([
  'append',
  'claim',
  'claimStream',
  'release',
  'reap',
  'ackOutbox',
  'saveSnapshot',
]);

export type Outcome = { replies: Reply[]; touched: Touched[] };

export function executeBatch(database: Database, batch: readonly Request[]): Outcome {
  const writing = batch.filter((request) => writes.has(request.op));
  const replies = writing.length === 0 ? [] : commit(database, writing);
  const touched = touchedBy(writing, replies);
  if (writing.some((request) => request.op === 'append' && request.args.eraseStream === true)) {
    forgetInWal(database);
  }
  for (const request of batch) {
    if (!writes.has(request.op)) replies.push(answer(database, request));
  }
  return { replies, touched };
}

/** Until the log is truncated, a destroyed key is still in its frames. */
export function forgetInWal({ db }: Database): void {
  try {
    db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  } catch {
    // A full disk refuses a checkpoint; the commit stands, and the next open or checkpoint does it.
  }
}

/** SQLite rolls a whole transaction back by itself after some errors (a full disk): then all of the batch is undone. */
class RolledBack extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.message);
    this.failure = failure;
  }
}

const noReason: Failure = { kind: 'unavailable', message: 'the database rolled the transaction back' };

function commit(database: Database, writing: readonly Request[]): Reply[] {
  try {
    return transaction(database, writing);
  } catch (error) {
    // Whatever broke the transaction broke it for all; nobody has been answered yet.
    if (writing.length > 1) return writing.flatMap((request) => commit(database, [request]));
    const failure = error instanceof RolledBack ? error.failure : failureOf(error);
    return writing.map(({ id }) => ({ id, ok: false, failure }));
  }
}

function transaction(database: Database, writing: readonly Request[]): Reply[] {
  const { db } = database;
  db.exec('BEGIN IMMEDIATE');
  try {
    const replies = writing.map((request) => inSavepoint(database, request));
    if (failpoints.on) failpointNow('store.before-commit');
    db.exec('COMMIT');
    if (failpoints.on) failpointNow('store.after-commit');
    return replies;
  } catch (error) {
    database.keys.forgetAll();
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}

function inSavepoint(database: Database, request: Request): Reply {
  const { db, keys } = database;
  db.exec('SAVEPOINT one');
  const reply = answer(database, request);
  if (!db.isTransaction) throw new RolledBack(reply.ok ? noReason : reply.failure);
  if (!changedSomething(reply)) {
    db.exec('ROLLBACK TO one');
    if (request.op === 'append') keys.forget(request.args.stream);
  }
  db.exec('RELEASE one');
  return reply;
}

function changedSomething(reply: Reply): boolean {
  if (!reply.ok) return false;
  const { value } = reply;
  if (typeof value !== 'object' || value === null || !('status' in value)) return true;
  return value.status === 'ok';
}

function answer<K extends OperationName>(database: Database, request: RequestOf<K>): Reply {
  try {
    const handler: Handlers[K] = handlers[request.op];
    return { id: request.id, ok: true, value: handler(database, request.args, request.nowMs) };
  } catch (error) {
    return { id: request.id, ok: false, failure: failureOf(error) };
  }
}

/** Each stream once, with its last head. */
function touchedBy(writing: readonly Request[], replies: readonly Reply[]): Touched[] {
  const heads = new Map<string, number>();
  for (const [index, request] of writing.entries()) {
    const reply = replies[index];
    if (request.op !== 'append' || !reply?.ok || !changedSomething(reply)) continue;
    const result = reply.value as Operations['append']['result'];
    if (result.status === 'ok') heads.set(request.args.stream, result.head);
  }
  return [...heads].map(([stream, head]) => ({ stream, head }));
}
