/** Every statement of the engine, prepared once at open. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

const eventColumns = `organization, project, stream, seq, id, type, schema_version AS schemaVersion, time, actor, thread,
  turn, call, causation, fence, audience, public_commitment AS publicCommitment,
  private_commitment AS privateCommitment, leaf_hash AS leafHash, public, private`;

const stateColumns = `organization, project, stream, head, fence, owner, last_time_ms AS lastTimeMs,
  erased_at AS erasedAt`;

const streamColumns = `${stateColumns}, wake_at AS wakeAt, created_at AS createdAt, summary`;

const resourceColumns = `organization, project, kind, id, version, body, created_at AS createdAt,
  updated_at AS updatedAt, archived_at AS archivedAt, unique_name AS uniqueName`;

/** Bounds that are not asked for are '' and '~', which enclose every time, so the index is always a range. */
const listedStreams = `SELECT ${streamColumns} FROM streams
  WHERE organization = :organization AND project = :project AND kind = :kind AND erased_at IS NULL
    AND created_at >= :gte AND created_at <= :lte AND created_at > :gt AND created_at < :lt
    AND (:agentId IS NULL OR agent_id = :agentId)
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND (:includeArchived = 1 OR archived_at IS NULL)`;

const sql = {
  streamState: `SELECT ${stateColumns} FROM streams WHERE stream = :stream`,
  summaryOf: `SELECT summary FROM streams WHERE stream = :stream`,
  streamOf: `SELECT ${streamColumns} FROM streams
    WHERE stream = :stream AND organization = :organization AND project = :project`,
  insertStream: `INSERT INTO streams
    (organization, project, stream, head, fence, created_at, last_time_ms, least_reader)
    VALUES (:organization, :project, :stream, 0, 0, :createdAt, :lastTimeMs, :leastReader)`,
  advanceStream: `UPDATE streams SET head = ?2, last_time_ms = ?3, least_reader = max(least_reader, ?4),
    wake_at = CASE WHEN ?5 IS NULL THEN wake_at ELSE min(coalesce(wake_at, ?5), ?5) END,
    kind = ?6, agent_id = ?7, status = ?8, archived_at = ?9, summary = ?10 WHERE stream = ?1`,
  eraseStream: `UPDATE streams SET erased_at = :erasedAt, summary = NULL, owner = NULL, wake_at = NULL,
    fence = fence + 1, agent_id = NULL, status = NULL, archived_at = NULL WHERE stream = :stream`,
  eraseEvents: `UPDATE events SET public = NULL, private = NULL WHERE stream = :stream`,
  listStreamsUp: `${listedStreams} AND (created_at, stream) > (:afterCreatedAt, :afterStream)
    ORDER BY created_at, stream LIMIT :limit`,
  listStreamsDown: `${listedStreams} AND (created_at, stream) < (:afterCreatedAt, :afterStream)
    ORDER BY created_at DESC, stream DESC LIMIT :limit`,

  insertKey: `INSERT INTO stream_keys (organization, project, stream, wrapped)
    VALUES (:organization, :project, :stream, :wrapped)`,
  keyOf: `SELECT wrapped FROM stream_keys WHERE stream = :stream`,
  deleteKey: `DELETE FROM stream_keys WHERE stream = :stream`,

  // By position: names cost more than the row, twenty times for every event.
  insertEvent: `INSERT INTO events (organization, project, stream, seq, id, type, schema_version, time, actor, thread,
      turn, call, causation, fence, audience, public_commitment, private_commitment, leaf_hash, public, private)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  readEvents: `SELECT ${eventColumns} FROM events WHERE stream = :stream AND seq > :afterSeq ORDER BY seq LIMIT :limit`,
  readEvent: `SELECT ${eventColumns} FROM events WHERE stream = :stream AND id = :eventId`,

  saveSnapshot: `INSERT INTO snapshots (organization, project, stream, seq, reader, data)
    SELECT organization, project, stream, :seq, :reader, :data FROM streams
    WHERE stream = :stream AND head >= :seq AND erased_at IS NULL
    ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, reader = excluded.reader, data = excluded.data
    WHERE snapshots.reader <> excluded.reader OR snapshots.seq < excluded.seq`,
  snapshotOf: `SELECT n.seq, n.reader, n.data FROM snapshots n JOIN streams s ON s.stream = n.stream
    WHERE n.stream = :stream AND n.seq <= s.head`,
  eraseSnapshot: `DELETE FROM snapshots WHERE stream = :stream`,

  requestOf: `SELECT hash, first_seq AS firstSeq, head FROM requests WHERE stream = :stream AND key = :key`,
  insertRequest: `INSERT INTO requests (organization, project, stream, key, hash, first_seq, head)
    VALUES (:organization, :project, :stream, :key, :hash, :firstSeq, :head)`,

  claim: `UPDATE streams SET owner = :worker, fence = fence + 1, wake_at = NULL WHERE stream IN (
      SELECT stream FROM streams WHERE owner IS NULL AND wake_at <= :nowMs AND least_reader <= :reader
      ORDER BY wake_at LIMIT :limit)
    RETURNING organization, project, stream, fence, head`,
  claimStream: `UPDATE streams SET owner = :worker, fence = fence + 1, wake_at = NULL
    WHERE stream = :stream AND owner IS NULL AND erased_at IS NULL AND least_reader <= :reader
    RETURNING organization, project, stream, fence, head`,
  release: `UPDATE streams SET owner = NULL, wake_at = :wakeAt WHERE stream = :stream`,
  reap: `UPDATE streams SET owner = NULL, fence = fence + 1, wake_at = min(coalesce(wake_at, :nowMs), :nowMs)
    WHERE owner IS NOT NULL AND owner NOT IN (SELECT value FROM json_each(:livingWorkers))`,
  nextWakeAt: `SELECT wake_at AS wakeAt FROM streams
    WHERE owner IS NULL AND wake_at IS NOT NULL AND least_reader <= :reader ORDER BY wake_at LIMIT 1`,

  newestResource: `SELECT ${resourceColumns} FROM resources
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id AND is_newest = 1`,
  resourceVersion: `SELECT ${resourceColumns} FROM resources
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id AND version = :version`,
  nameHolder: `SELECT id FROM resources WHERE kind = :kind AND unique_name = :uniqueName
    AND organization = :organization AND project = :project AND is_newest = 1 AND archived_at IS NULL`,
  resourceByName: `SELECT ${resourceColumns} FROM resources
    WHERE kind = :kind AND unique_name = :uniqueName AND is_newest = 1 AND archived_at IS NULL
    ORDER BY created_at, id LIMIT 1`,
  retireResource: `UPDATE resources SET is_newest = 0
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id AND is_newest = 1`,
  insertResource: `INSERT INTO resources (organization, project, kind, id, version, is_newest, body, created_at,
      updated_at, archived_at, unique_name)
    VALUES (:organization, :project, :kind, :id, :version, 1, :body, :createdAt, :updatedAt, :archivedAt, :uniqueName)`,
  touchResource: `UPDATE resources SET updated_at = :updatedAt, archived_at = :archivedAt, unique_name = :uniqueName
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id AND version = :version`,
  deleteResource: `DELETE FROM resources
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id`,
  listResources: `SELECT ${resourceColumns} FROM resources
    WHERE organization = :organization AND project = :project AND kind = :kind AND is_newest = 1
      AND created_at >= :gte AND created_at <= :lte AND (:includeArchived = 1 OR archived_at IS NULL)
      AND (created_at, id) < (:afterCreatedAt, :afterId)
    ORDER BY created_at DESC, id DESC LIMIT :limit`,
  listVersions: `SELECT ${resourceColumns} FROM resources
    WHERE organization = :organization AND project = :project AND kind = :kind AND id = :id
      AND created_at >= :gte AND created_at <= :lte AND version < :beforeVersion
    ORDER BY version DESC LIMIT :limit`,

  reserve: `INSERT INTO reservations (organization, project, stream, id, amount_micros, reserved_at)
    VALUES (:organization, :project, :stream, :id, :amountMicros, :time)`,
  settle: `UPDATE reservations SET settled_at = :time, cost_micros = :costMicros
    WHERE organization = :organization AND project = :project AND id = :id AND settled_at IS NULL`,
  reservation: `SELECT organization, project, stream, id, amount_micros AS amountMicros, settled_at AS settledAt,
      cost_micros AS costMicros
    FROM reservations WHERE organization = :organization AND project = :project AND id = :id`,

  insertOutbox: `INSERT INTO outbox (organization, project, stream, id, kind, body)
    VALUES (:organization, :project, :stream, :id, :kind, :body)`,
  pendingOutbox: `SELECT organization, project, stream, id, kind, body FROM outbox ORDER BY number LIMIT :limit`,
  ackOutbox: `DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(:ids))`,
} as const;

export type Statements = Record<keyof typeof sql, StatementSync>;

export function prepareStatements(db: DatabaseSync): Statements {
  const prepared = Object.entries(sql).map(([name, text]) => [name, db.prepare(text)]);
  return Object.fromEntries(prepared) as Statements;
}
