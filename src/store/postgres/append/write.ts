/**
 * The one statement that writes: for each stream its row, under the condition that it is still as it was read, and with
 * it events, requests, reservations and outbox messages. What none of a batch needs is left out of the statement.
 */

import { failpoints, sabotaged } from '../../../protocol/failpoint.ts';
import type { TextAppend } from '../../as-text.ts';
import { leastReaderVersion } from '../../event-rows.ts';
import { sealText } from '../../seal.ts';
import type { Chain } from '../append.ts';
import type { Connection } from '../connection/pool.ts';
import { ask } from '../connection/pool.ts';
import { bytes, integers, texts } from '../connection/values.ts';

type Of<O extends string> = {
  request: TextAppend;
  time: string;
  it: Extract<NonNullable<TextAppend['reservation']>, { op: O }>;
};

/** The streams that were as they had been read, and so were written. */
export async function write(connection: Connection, chains: readonly Chain[]): Promise<Set<string>> {
  const statement = new Statement();
  // In the order of names, which is the order of everybody's locks: a lateral look-up goes row by row.
  const ordered = chains.toSorted((one, other) => (one.base.stream < other.base.stream ? -1 : 1));
  statement.with('input', inputOf(statement, ordered));
  statement.with(
    'locked',
    `SELECT i.*, s.tid FROM input i CROSS JOIN LATERAL
      (SELECT ctid AS tid FROM streams WHERE stream = i.stream FOR NO KEY UPDATE) s`,
  );
  const guards = [...requestsOf(statement, chains), ...settlesOf(statement, chains)];
  statement.with('updated', updateOf(guards));
  statement.with('written', eventsOf(statement, chains));
  writeRequests(statement);
  writeReservations(statement, chains);
  writeOutbox(statement, chains);
  const rows = await ask<{ stream: string }>(
    connection,
    statement.text(),
    statement.values,
    statement.name(),
  );
  return new Set(rows.map(({ stream }) => stream));
}

/** Common table expressions with their parameters. The set of them is its name: it is prepared once for each set. */
class Statement {
  readonly values: unknown[] = [];
  readonly #parts = new Map<string, string>();

  with(name: string, text: string): void {
    this.#parts.set(name, text);
  }

  has(name: string): boolean {
    return this.#parts.has(name);
  }

  add(value: Buffer, type: string): string {
    this.values.push(value);
    return `$${this.values.length}::${type}`;
  }

  texts(values: readonly (string | null)[]): string {
    return this.add(texts(values), 'text[]');
  }

  integers(values: readonly (number | null)[]): string {
    return this.add(integers(values), 'int8[]');
  }

  bytes(values: readonly (Uint8Array | null)[]): string {
    return this.add(bytes(values), 'bytea[]');
  }

  text(): string {
    const parts = [...this.#parts].map(([name, text]) => `${name} AS ${materialized(name)}(${text})`);
    return `WITH ${parts.join(', ')} SELECT stream FROM updated`;
  }

  name(): string {
    return `append ${[...this.#parts.keys()].join(' ')}`;
  }
}

/** Read several times, and locked before anything is updated. */
function materialized(name: string): string {
  return ['input', 'locked', 'asked', 'settling'].includes(name) ? 'MATERIALIZED ' : '';
}

function member({ after }: Chain, name: string): string | null {
  const value = after.summary?.[name];
  return typeof value === 'string' ? value : null;
}

function inputOf(statement: Statement, chains: readonly Chain[]): string {
  const columns = [
    statement.texts(chains.map(({ base }) => base.stream)),
    statement.integers(chains.map(({ base }) => base.head)),
    statement.integers(chains.map(fenceOf)),
    statement.integers(chains.map(({ after }) => after.head)),
    statement.integers(chains.map(({ after }) => after.lastTimeMs)),
    statement.integers(chains.map(({ wakeAt }) => wakeAt)),
    ...['kind', 'agent_id', 'status', 'archived_at'].map((name) =>
      statement.texts(chains.map((chain) => member(chain, name))),
    ),
    statement.bytes(chains.map(sealedSummary)),
  ];
  return `SELECT * FROM unnest(${columns.join(', ')})
    AS i(stream, base_head, fence, head, time_ms, wake_at, kind, agent_id, status, archived_at, summary)`;
}

function fenceOf({ fence }: Chain): number | null {
  return failpoints.on && sabotaged('sabotage.no-fence') ? null : fence;
}

function sealedSummary({ after }: Chain): Uint8Array | null {
  if (after.key === null || after.summary === null) return null;
  return sealText(after.key, [after.stream, 'summary'], JSON.stringify(after.summary));
}

/**
 * By the place of the row that was locked: whatever the planner believes of the table, that is one page. A row that was
 * changed while its lock was waited for has moved, and counts as one that is not as it was read.
 */
function updateOf(guards: readonly string[]): string {
  return `UPDATE streams s SET head = i.head, last_time_ms = i.time_ms,
      least_reader = greatest(s.least_reader, ${leastReaderVersion}),
      wake_at = CASE WHEN i.wake_at IS NULL THEN s.wake_at ELSE least(coalesce(s.wake_at, i.wake_at), i.wake_at) END,
      kind = i.kind, agent_id = i.agent_id, status = i.status, archived_at = i.archived_at, summary = i.summary
    FROM locked i WHERE s.ctid = i.tid AND s.stream = i.stream AND s.head = i.base_head AND s.last_time_ms <= i.time_ms AND s.erased_at IS NULL
      AND (i.fence IS NULL OR (s.fence = i.fence AND s.owner IS NOT NULL))
      ${guards.map((guard) => `AND ${guard}`).join(' ')}
    RETURNING s.stream, s.organization, s.project`;
}

function eventsOf(statement: Statement, chains: readonly Chain[]): string {
  const rows = chains.flatMap((chain) => chain.rows);
  const columns = [
    statement.texts(rows.map((row) => row.stream)),
    statement.integers(rows.map((row) => row.seq)),
    statement.texts(rows.map((row) => row.id)),
    statement.texts(rows.map((row) => row.type)),
    statement.integers(rows.map((row) => row.schemaVersion)),
    statement.texts(rows.map((row) => row.time)),
    statement.texts(rows.map((row) => row.actor)),
    statement.texts(rows.map((row) => row.thread)),
    statement.texts(rows.map((row) => row.turn)),
    statement.texts(rows.map((row) => row.call)),
    statement.texts(rows.map((row) => row.causation)),
    statement.integers(rows.map((row) => row.fence)),
    statement.texts(rows.map((row) => row.audience)),
    statement.bytes(rows.map((row) => row.publicCommitment)),
    statement.bytes(rows.map((row) => row.privateCommitment)),
    statement.bytes(rows.map((row) => row.leafHash)),
    statement.bytes(rows.map((row) => row.public)),
    statement.bytes(rows.map((row) => row.private)),
  ];
  const names = `stream, seq, id, type, schema_version, time, actor, thread, turn, call, causation, fence, audience,
    public_commitment, private_commitment, leaf_hash, public, private`;
  return `INSERT INTO events (organization, project, ${names})
    SELECT u.organization, u.project, e.* FROM unnest(${columns.join(', ')}) AS e(${names})
    JOIN updated u ON u.stream = e.stream`;
}

/** A key that is there already stops its stream's part; a key that is written at this moment stops at the row. */
function requestsOf(statement: Statement, chains: readonly Chain[]): string[] {
  const asked = chains.flatMap(({ base, parts }) =>
    parts.flatMap(({ waiting, firstSeq, head }) => {
      const { request } = waiting.request;
      return request === undefined ? [] : [{ stream: base.stream, ...request, firstSeq, head }];
    }),
  );
  if (asked.length === 0) return [];
  const columns = [
    statement.texts(asked.map(({ stream }) => stream)),
    statement.texts(asked.map(({ key }) => key)),
    statement.texts(asked.map(({ hash }) => hash)),
    statement.integers(asked.map(({ firstSeq }) => firstSeq)),
    statement.integers(asked.map(({ head }) => head)),
  ];
  statement.with(
    'asked',
    `SELECT * FROM unnest(${columns.join(', ')}) AS a(stream, key, hash, first_seq, head)`,
  );
  return [
    'NOT EXISTS (SELECT FROM asked a JOIN requests r ON r.stream = a.stream AND r.key = a.key WHERE a.stream = s.stream)',
  ];
}

function writeRequests(statement: Statement): void {
  if (!statement.has('asked')) return;
  statement.with(
    'requested',
    `INSERT INTO requests (organization, project, stream, key, hash, first_seq, head)
      SELECT u.organization, u.project, a.* FROM asked a JOIN updated u ON u.stream = a.stream`,
  );
}

function reservationsOf<O extends 'reserve' | 'settle'>(chains: readonly Chain[], op: O): Of<O>[] {
  return chains.flatMap(({ parts }) =>
    parts.flatMap(({ waiting, time }) => {
      const { reservation } = waiting.request;
      return reservation?.op === op
        ? [{ request: waiting.request, time, it: reservation as Of<O>['it'] }]
        : [];
    }),
  );
}

/** Settling what is not open is the caller's bug: nothing of the append happens. */
function settlesOf(statement: Statement, chains: readonly Chain[]): string[] {
  const settles = reservationsOf(chains, 'settle');
  if (settles.length === 0) return [];
  const columns = [
    statement.texts(settles.map(({ request }) => request.stream)),
    statement.texts(settles.map(({ it }) => it.id)),
    statement.integers(settles.map(({ it }) => it.costMicros)),
    statement.texts(settles.map(({ time }) => time)),
  ];
  statement.with(
    'settling',
    `SELECT * FROM unnest(${columns.join(', ')}) AS t(stream, id, cost_micros, time)`,
  );
  return [
    `NOT EXISTS (SELECT FROM settling t WHERE t.stream = s.stream AND NOT EXISTS (SELECT FROM reservations r
      WHERE r.id = t.id AND r.stream = s.stream AND r.settled_at IS NULL))`,
  ];
}

function writeReservations(statement: Statement, chains: readonly Chain[]): void {
  if (statement.has('settling')) {
    statement.with(
      'settled',
      `UPDATE reservations r SET settled_at = t.time, cost_micros = t.cost_micros
        FROM settling t JOIN updated u ON u.stream = t.stream
        WHERE r.id = t.id AND r.stream = t.stream AND r.settled_at IS NULL`,
    );
  }
  const reserves = reservationsOf(chains, 'reserve');
  if (reserves.length === 0) return;
  const columns = [
    statement.texts(reserves.map(({ request }) => request.stream)),
    statement.texts(reserves.map(({ it }) => it.id)),
    statement.integers(reserves.map(({ it }) => it.amountMicros)),
    statement.texts(reserves.map(({ time }) => time)),
  ];
  statement.with(
    'reserved',
    `INSERT INTO reservations (organization, project, stream, id, amount_micros, reserved_at)
      SELECT u.organization, u.project, n.* FROM unnest(${columns.join(', ')}) AS n(stream, id, amount_micros, time)
      JOIN updated u ON u.stream = n.stream`,
  );
}

function writeOutbox(statement: Statement, chains: readonly Chain[]): void {
  const messages = chains.flatMap(({ base, parts }) =>
    parts.flatMap(({ waiting }) => waiting.request.outbox.map((one) => ({ stream: base.stream, ...one }))),
  );
  if (messages.length === 0) return;
  const columns = [
    statement.texts(messages.map(({ stream }) => stream)),
    statement.texts(messages.map(({ id }) => id)),
    statement.texts(messages.map(({ kind }) => kind)),
    statement.texts(messages.map(({ body }) => body)),
  ];
  statement.with(
    'sent',
    `INSERT INTO outbox (organization, project, stream, id, kind, body)
      SELECT u.organization, u.project, m.stream, m.id, m.kind, m.body
      FROM unnest(${columns.join(', ')}) WITH ORDINALITY AS m(stream, id, kind, body, place)
      JOIN updated u ON u.stream = m.stream ORDER BY m.place`,
  );
}
