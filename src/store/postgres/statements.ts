/**
 * Every statement of the engine but the append's (`append.ts`), each prepared once per connection.
 *
 * Rows are always locked in the order of their stream's name, or with SKIP LOCKED: two processes that lock many cannot
 * wait for each other.
 */
import type { Connection } from './connection/pool.ts';
import { ask } from './connection/pool.ts';
import { livenessClass } from './lock.ts';

const eventColumns = `organization, project, stream, seq, id, type, schema_version AS "schemaVersion", time, actor,
  thread, turn, call, causation, fence, audience, public_commitment AS "publicCommitment",
  private_commitment AS "privateCommitment", leaf_hash AS "leafHash", public, private`;

const streamColumns = `s.organization, s.project, s.stream, s.head, s.fence, s.owner, s.wake_at AS "wakeAt",
  s.created_at AS "createdAt", s.last_time_ms AS "lastTimeMs", s.erased_at AS "erasedAt", s.summary, k.wrapped`;

const streamsAndKeys = 'streams s LEFT JOIN stream_keys k ON k.stream = s.stream';

const resourceColumns = `organization, project, kind, id, version, body, created_at AS "createdAt",
  updated_at AS "updatedAt", archived_at AS "archivedAt", unique_name AS "uniqueName"`;

/** Bounds that are not asked for are '' and '~', which enclose every time, so the index is always a range. */
const listedStreams = `SELECT ${streamColumns} FROM ${streamsAndKeys}
  WHERE s.organization = $1 AND s.project = $2 AND s.kind = $3 AND s.erased_at IS NULL
    AND s.created_at > $4 AND s.created_at >= $5 AND s.created_at < $6 AND s.created_at <= $7
    AND ($8::text IS NULL OR s.agent_id = $8)
    AND ($9::text[] IS NULL OR s.status = ANY($9))
    AND ($10::bool OR s.archived_at IS NULL)`;

/** Locks of living workers; the second number of a lock is in the worker's row. */
const heldLocks = `SELECT objid::int8 AS lock_key FROM pg_locks
  WHERE locktype = 'advisory' AND classid = ${livenessClass} AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;

/**
 * By name, not by "nobody we know": a stream that a newcomer claims meanwhile has another owner than the one found.
 * Owners that are not registered were declared dead while a claim of theirs was still on its way.
 */
function reaping(condition: string): string {
  return `WITH held AS MATERIALIZED (${heldLocks}), dead AS (
      DELETE FROM workers w WHERE ${condition} RETURNING w.worker
    ), gone AS (
      SELECT worker AS owner FROM dead
      UNION SELECT o.owner FROM (SELECT DISTINCT owner FROM streams WHERE owner IS NOT NULL) o
        WHERE NOT EXISTS (SELECT FROM workers w WHERE w.worker = o.owner)
    ), orphans AS MATERIALIZED (
      SELECT s.stream, s.owner FROM streams s JOIN gone ON gone.owner = s.owner ORDER BY s.stream
      FOR NO KEY UPDATE OF s
    )
    UPDATE streams s SET owner = NULL, fence = s.fence + 1, wake_at = least(coalesce(s.wake_at, $1::int8), $1::int8)
    FROM orphans WHERE s.stream = orphans.stream AND s.owner = orphans.owner RETURNING s.stream, s.head`;
}

const sql = {
  streamOf: `SELECT ${streamColumns} FROM ${streamsAndKeys}
    WHERE s.stream = $1 AND s.organization = $2 AND s.project = $3`,
  streamsNamed: `SELECT ${streamColumns} FROM ${streamsAndKeys} WHERE s.stream = ANY($1::text[])`,
  streamLocked: `SELECT ${streamColumns} FROM ${streamsAndKeys} WHERE s.stream = $1 FOR NO KEY UPDATE OF s`,
  insertStream: `INSERT INTO streams (organization, project, stream, head, fence, created_at, last_time_ms, least_reader)
    VALUES ($1, $2, $3, 0, 0, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING stream`,
  eraseStream: `UPDATE streams SET erased_at = $2, summary = NULL, owner = NULL, wake_at = NULL, fence = fence + 1,
    agent_id = NULL, status = NULL, archived_at = NULL WHERE stream = $1`,
  eraseEvents: `UPDATE events SET public = NULL, private = NULL WHERE stream = $1`,
  listStreamsUp: `${listedStreams} AND (s.created_at, s.stream) > ($11, $12)
    ORDER BY s.created_at, s.stream LIMIT $13::int8`,
  listStreamsDown: `${listedStreams} AND (s.created_at, s.stream) < ($11, $12)
    ORDER BY s.created_at DESC, s.stream DESC LIMIT $13::int8`,

  insertKey: `INSERT INTO stream_keys (organization, project, stream, wrapped) VALUES ($1, $2, $3, $4)`,
  keyOf: `SELECT wrapped FROM stream_keys WHERE stream = $1`,
  deleteKey: `DELETE FROM stream_keys WHERE stream = $1`,

  // The lock makes an erasure that comes between take this row with it, or be seen here.
  saveSnapshot: `INSERT INTO snapshots (organization, project, stream, seq, reader, data)
    SELECT organization, project, stream, $2::int8, $3::int8, $4::bytea FROM streams
    WHERE stream = $1 AND head >= $2::int8 AND erased_at IS NULL FOR SHARE
    ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, reader = excluded.reader, data = excluded.data
    WHERE snapshots.reader <> excluded.reader OR snapshots.seq < excluded.seq`,
  snapshotOf: `SELECT n.seq, n.reader, n.data, k.wrapped FROM snapshots n
    JOIN streams s ON s.stream = n.stream JOIN stream_keys k ON k.stream = n.stream
    WHERE n.stream = $1 AND n.seq <= s.head`,
  eraseSnapshot: `DELETE FROM snapshots WHERE stream = $1`,

  // A commit, which waits for whatever was committed before it to be where commits have to be.
  confirm: `SELECT stream FROM streams WHERE stream = ANY($1::text[]) ORDER BY stream FOR KEY SHARE`,

  readEvents: `SELECT ${eventColumns} FROM events WHERE stream = $1 AND seq > $2::int8 ORDER BY seq LIMIT $3::int8`,
  readEvent: `SELECT ${eventColumns} FROM events WHERE stream = $1 AND id = $2`,
  eventsNamed: `SELECT e.stream, e.id, e.seq, e.time FROM unnest($1::text[], $2::text[]) AS n(stream, id)
    JOIN events e ON e.stream = n.stream AND e.id = n.id`,
  requestsNamed: `SELECT r.stream, r.key, r.hash, r.first_seq AS "firstSeq", r.head
    FROM unnest($1::text[], $2::text[]) AS n(stream, key)
    JOIN requests r ON r.stream = n.stream AND r.key = n.key`,

  claim: `WITH due AS MATERIALIZED (
      SELECT stream FROM streams WHERE owner IS NULL AND wake_at <= $2::int8 AND least_reader <= $4::int8
      ORDER BY wake_at LIMIT $3::int8 FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE streams s SET owner = $1, fence = s.fence + 1, wake_at = NULL FROM due WHERE s.stream = due.stream
    RETURNING s.organization, s.project, s.stream, s.fence, s.head`,
  claimStream: `UPDATE streams SET owner = $1, fence = fence + 1, wake_at = NULL
    WHERE stream = $2 AND owner IS NULL AND erased_at IS NULL AND least_reader <= $3::int8
    RETURNING organization, project, stream, fence, head`,
  release: `UPDATE streams SET owner = NULL, wake_at = $4::int8
    WHERE stream = $1 AND owner IS NOT NULL AND fence = $2::int8 AND head = $3::int8 RETURNING stream`,
  ownership: `SELECT stream FROM streams WHERE stream = $1 AND owner IS NOT NULL AND fence = $2::int8`,

  register: `INSERT INTO workers (worker, lock_key, lease_until, info)
    VALUES ($1, $2::int4, clock_timestamp() + $3::int8 * interval '1 millisecond', $4)`,
  renew: `UPDATE workers SET lease_until = clock_timestamp() + $2::int8 * interval '1 millisecond'
    WHERE worker = $1 RETURNING worker`,
  unregister: `DELETE FROM workers WHERE worker = $1`,
  livingWorkers: `SELECT w.worker, w.info FROM workers w JOIN (${heldLocks}) held ON held.lock_key = w.lock_key
    WHERE w.lease_until > clock_timestamp() ORDER BY w.worker`,
  reapDead: reaping(
    'w.lease_until < clock_timestamp() OR NOT EXISTS (SELECT FROM held WHERE held.lock_key = w.lock_key)',
  ),
  /** Only for sabotage: as if there were no locks. */
  reapExpired: reaping('w.lease_until < clock_timestamp()'),
  nextWakeAt: `SELECT wake_at AS "wakeAt" FROM streams
    WHERE owner IS NULL AND wake_at IS NOT NULL AND least_reader <= $1::int8 ORDER BY wake_at LIMIT 1`,

  lockResources: `SELECT pg_advisory_xact_lock(hashtextextended(name, 0))
    FROM unnest($1::text[]) WITH ORDINALITY AS n(name, place) ORDER BY place`,
  newestResource: `SELECT ${resourceColumns} FROM resources
    WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4 AND is_newest`,
  resourceVersion: `SELECT ${resourceColumns} FROM resources
    WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4 AND version = $5::int8`,
  nameHolder: `SELECT id FROM resources WHERE organization = $1 AND project = $2 AND kind = $3 AND unique_name = $4
    AND is_newest AND archived_at IS NULL`,
  resourceByName: `SELECT ${resourceColumns} FROM resources
    WHERE kind = $1 AND unique_name = $2 AND is_newest AND archived_at IS NULL ORDER BY created_at, id LIMIT 1`,
  retireResource: `UPDATE resources SET is_newest = false
    WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4 AND is_newest`,
  insertResource: `INSERT INTO resources (organization, project, kind, id, version, is_newest, body, created_at,
      updated_at, archived_at, unique_name) VALUES ($1, $2, $3, $4, $5::int8, true, $6, $7, $8, $9, $10)`,
  touchResource: `UPDATE resources SET updated_at = $6, archived_at = $7, unique_name = $8
    WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4 AND version = $5::int8`,
  deleteResource: `DELETE FROM resources WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4`,
  listResources: `SELECT ${resourceColumns} FROM resources
    WHERE organization = $1 AND project = $2 AND kind = $3 AND is_newest
      AND created_at >= $4 AND created_at <= $5 AND ($6::bool OR archived_at IS NULL)
      AND (created_at, id) < ($7, $8) ORDER BY created_at DESC, id DESC LIMIT $9::int8`,
  listVersions: `SELECT ${resourceColumns} FROM resources
    WHERE organization = $1 AND project = $2 AND kind = $3 AND id = $4
      AND created_at >= $5 AND created_at <= $6 AND version < $7::int8 ORDER BY version DESC LIMIT $8::int8`,

  openReservations: `SELECT id FROM reservations WHERE id = ANY($1::text[]) AND settled_at IS NULL`,
  reservation: `SELECT organization, project, stream, id, amount_micros AS "amountMicros",
      settled_at AS "settledAt", cost_micros AS "costMicros"
    FROM reservations WHERE organization = $1 AND project = $2 AND id = $3`,
  pendingOutbox: `SELECT organization, project, stream, id, kind, body FROM outbox ORDER BY number LIMIT $1::int8`,
  ackOutbox: `DELETE FROM outbox WHERE id = ANY($1::text[])`,
} as const;

export type StatementName = keyof typeof sql;

export function run<R extends object>(
  connection: Connection,
  name: StatementName,
  values: readonly unknown[],
): Promise<R[]> {
  return ask<R>(connection, sql[name], values, name);
}
