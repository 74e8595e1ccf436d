/** Rows of streams: one, many, and their summaries, unsealed. */
import type { KeyObject } from 'node:crypto';
import type { JsonObject } from '../../protocol/json.ts';
import type { StreamState } from '../admission.ts';
import { openSummary, openText } from '../seal.ts';
import type { ListStreams, StreamRow, Tenant } from '../store.ts';
import { timeBound } from '../time-bound.ts';
import { texts } from './connection/values.ts';
import type { Database } from './database.ts';
import type { Keys } from './keys.ts';
import { run } from './statements.ts';

export type StreamRecord = StreamState & {
  wakeAt: number | null;
  createdAt: string;
  summary: Uint8Array | null;
  /** The stream's key under the master key; null where it is destroyed. */
  wrapped: Uint8Array | null;
};

/** A stream as an append starts from it. */
export type Base = StreamState & { key: KeyObject | null; summary: JsonObject | null };

export async function streamRow(
  { pool, keys }: Database,
  { organization, project }: Tenant,
  stream: string,
): Promise<StreamRow | null> {
  const [record] = await pool.use((connection) =>
    run<StreamRecord>(connection, 'streamOf', [stream, organization, project]),
  );
  return record === undefined ? null : unseal(keys, record);
}

export async function listStreams({ pool, keys }: Database, query: ListStreams): Promise<StreamRow[]> {
  const { createdAt, after } = query;
  const isUp = query.order === 'asc';
  const values = [
    query.organization,
    query.project,
    query.kind,
    timeBound(createdAt?.gt, ''),
    timeBound(createdAt?.gte, ''),
    timeBound(createdAt?.lt, '~'),
    timeBound(createdAt?.lte, '~'),
    query.agentId ?? null,
    query.statuses === undefined ? null : texts(query.statuses),
    query.includeArchived === true,
    after?.createdAt ?? (isUp ? '' : '~'),
    after?.stream ?? '',
    query.limit,
  ];
  const records = await pool.use((connection) =>
    run<StreamRecord>(connection, isUp ? 'listStreamsUp' : 'listStreamsDown', values),
  );
  return records.map((record) => unseal(keys, record));
}

export function baseOf(keys: Keys, record: StreamRecord): Base {
  const { wakeAt: _w, createdAt: _c, wrapped, summary, ...state } = record;
  const key = keys.unwrap(record.stream, wrapped);
  return { ...state, key, summary: summaryBefore(record.stream, key, summary) };
}

function unseal(keys: Keys, record: StreamRecord): StreamRow {
  const { lastTimeMs: _l, erasedAt, wrapped, summary, ...row } = record;
  const { stream } = record;
  const text = summary === null ? null : openSummary(() => keys.unwrap(stream, wrapped), stream, summary);
  const opened = text === null ? null : (JSON.parse(text) as JsonObject);
  return { ...row, erased: erasedAt !== null, summary: opened };
}

/** Strict: an append must not go on from a summary that it could not read. */
function summaryBefore(stream: string, key: KeyObject | null, summary: Uint8Array | null): JsonObject | null {
  if (key === null || summary === null) return null;
  return JSON.parse(openText(key, [stream, 'summary'], summary)) as JsonObject;
}
