/**
 * Streams and events as the two parameters of the statement that writes them: arrays of the types of revision 3, whose
 * members are listed here in their order.
 */
import { failpoints, sabotaged } from '../../../protocol/failpoint.ts';
import type { EventRow } from '../../event-rows.ts';
import { sealText } from '../../seal.ts';
import type { Chain } from '../append.ts';
import type { Connection } from '../connection/pool.ts';
import { ask } from '../connection/pool.ts';
import type { Member, MemberValue } from '../connection/values.ts';
import { records } from '../connection/values.ts';

type Oids = { stream: number; event: number };

/** By connection, because the numbers are the database's: one that was restored has others, and new connections. */
const known = new WeakMap<Connection, Oids>();

export async function oidsOf(connection: Connection): Promise<Oids> {
  const [row] = await ask<Oids>(
    connection,
    `SELECT 'stream_write'::regtype::oid::int8 AS stream, 'event_write'::regtype::oid::int8 AS event`,
  );
  if (row === undefined) throw new Error('the database does not say what its types are');
  known.set(connection, row);
  return row;
}

export function knownOids(connection: Connection): Oids | null {
  return known.get(connection) ?? null;
}

const streamMembers: Member[] = [
  ...(['text', 'int8', 'int8', 'int8', 'int8', 'int8'] as const),
  ...(['text', 'text', 'text', 'text', 'bytea'] as const),
];

export function streamWrites({ stream }: Oids, chains: readonly Chain[]): Buffer {
  return records(stream, streamMembers, chains.map(streamWrite));
}

function streamWrite(chain: Chain): MemberValue[] {
  const { base, after, wakeAt } = chain;
  return [
    base.stream,
    base.head,
    fenceOf(chain),
    after.head,
    after.lastTimeMs,
    wakeAt,
    summaryMember(chain, 'kind'),
    summaryMember(chain, 'agent_id'),
    summaryMember(chain, 'status'),
    summaryMember(chain, 'archived_at'),
    sealedSummary(chain),
  ];
}

function fenceOf({ fence }: Chain): number | null {
  return failpoints.on && sabotaged('sabotage.no-fence') ? null : fence;
}

function summaryMember({ after }: Chain, name: string): string | null {
  const value = after.summary?.[name];
  return typeof value === 'string' ? value : null;
}

function sealedSummary({ after }: Chain): Uint8Array | null {
  if (after.key === null || after.summary === null) return null;
  return sealText(after.key, [after.stream, 'summary'], JSON.stringify(after.summary));
}

const eventMembers: Member[] = [
  ...(['text', 'int8', 'text', 'text', 'int8', 'text', 'text'] as const),
  ...(['text', 'text', 'text', 'text', 'int8', 'text'] as const),
  ...(['bytea', 'bytea', 'bytea', 'bytea', 'bytea'] as const),
];

export function eventWrites({ event }: Oids, chains: readonly Chain[]): Buffer {
  return records(
    event,
    eventMembers,
    chains.flatMap(({ rows }) => rows.map(eventWrite)),
  );
}

function eventWrite(row: EventRow): MemberValue[] {
  return [
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
