/** Rows of streams: one, many, and their summaries, unsealed. */
import type { StreamState } from '../admission.ts';
import type { TextStreamRow } from '../as-text.ts';
import { openSummary } from '../seal.ts';
import type { ListStreams, Tenant } from '../store.ts';
import { timeBound } from '../time-bound.ts';
import type { Database } from './database.ts';

type StreamRecord = StreamState & {
  wakeAt: number | null;
  createdAt: string;
  summary: Uint8Array | null;
};

export function findStream({ statements }: Database, stream: string): StreamState | null {
  return (statements.streamState.get({ stream }) as StreamState | undefined) ?? null;
}

export function streamRow(database: Database, tenant: Tenant, stream: string): TextStreamRow | null {
  const { organization, project } = tenant;
  const record = database.statements.streamOf.get({ stream, organization, project }) as
    | StreamRecord
    | undefined;
  return record === undefined ? null : unseal(database, record);
}

export function listStreams(database: Database, query: ListStreams): TextStreamRow[] {
  const { organization, project, kind, createdAt, after } = query;
  const isUp = query.order === 'asc';
  const { listStreamsUp, listStreamsDown } = database.statements;
  const records = (isUp ? listStreamsUp : listStreamsDown).all({
    organization,
    project,
    kind,
    gt: timeBound(createdAt?.gt, ''),
    gte: timeBound(createdAt?.gte, ''),
    lt: timeBound(createdAt?.lt, '~'),
    lte: timeBound(createdAt?.lte, '~'),
    agentId: query.agentId ?? null,
    statuses: query.statuses === undefined ? null : JSON.stringify(query.statuses),
    includeArchived: query.includeArchived ? 1 : 0,
    afterCreatedAt: after?.createdAt ?? (isUp ? '' : '~'),
    afterStream: after?.stream ?? '',
    limit: query.limit,
  }) as StreamRecord[];
  return records.map((record) => unseal(database, record));
}

function unseal(database: Database, record: StreamRecord): TextStreamRow {
  const { lastTimeMs: _, erasedAt, summary, ...row } = record;
  const { stream } = record;
  const text = summary === null ? null : openSummary(() => database.keys.of(stream), stream, summary);
  return { ...row, erased: erasedAt !== null, summary: text };
}
