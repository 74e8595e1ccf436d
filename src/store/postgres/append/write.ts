/**
 * The one statement that writes: for each stream its row, under the condition that it is still as it was read, and with
 * it events, requests, reservations and outbox messages. What none of a batch needs is left out of the statement.
 */

import type { TextAppend } from '../../as-text.ts';
import { leastReaderVersion } from '../../event-rows.ts';
import type { Chain } from '../append.ts';
import type { Connection } from '../connection/pool.ts';
import { ask } from '../connection/pool.ts';
import { integers, texts } from '../connection/values.ts';
import { eventWrites, knownOids, oidsOf, streamWrites } from './rows.ts';

type Of<O extends string> = {
  request: TextAppend;
  time: string;
  it: Extract<NonNullable<TextAppend['reservation']>, { op: O }>;
};

/** A common table expression: its parameters, and its text with their places, which is the same at every use of it. */
type Part = { values: readonly Buffer[]; text(parameters: readonly string[]): string };

/** The streams that were as they had been read, and so were written. */
export async function write(connection: Connection, chains: readonly Chain[]): Promise<Set<string>> {
  const oids = knownOids(connection) ?? (await oidsOf(connection));
  // In the order of names, which is the order of everybody's locks: a lateral look-up goes row by row.
  const ordered = chains.toSorted((one, other) => (one.base.stream < other.base.stream ? -1 : 1));
  const asked = askedOf(chains);
  const settling = settlingOf(chains);
  const parts: [string, Part | null][] = [
    ['locked', { values: [streamWrites(oids, ordered)], text: lockedText }],
    ['asked', asked],
    ['settling', settling],
    ['updated', { values: [], text: () => updatedText(asked !== null, settling !== null) }],
    ['written', { values: [eventWrites(oids, chains)], text: writtenText }],
    ['requested', asked && { values: [], text: () => requestedText }],
    ['settled', settling && { values: [], text: () => settledText }],
    ['reserved', reservedOf(chains)],
    ['sent', sentOf(chains)],
  ];
  const used = parts.filter((part): part is [string, Part] => part[1] !== null);
  const name = `append ${used.map(([part]) => part).join(' ')}`;
  const values = used.flatMap(([, part]) => part.values);
  const rows = await ask<{ stream: string }>(connection, statementOf(name, used), values, name);
  return new Set(rows.map(({ stream }) => stream));
}

/** The set of its parts is a statement's name: it is made once, and prepared once per connection. */
const statements = new Map<string, string>();

function statementOf(name: string, parts: readonly [string, Part][]): string {
  const made = statements.get(name);
  if (made !== undefined) return made;
  let count = 0;
  const expressions = parts.map(([part, { values, text }]) => {
    const places = values.map(() => {
      count += 1;
      return `$${count}`;
    });
    return `${part} AS ${isReadAgain(part) ? 'MATERIALIZED ' : ''}(${text(places)})`;
  });
  const statement = `WITH ${expressions.join(', ')} SELECT stream FROM updated`;
  statements.set(name, statement);
  return statement;
}

/** Read several times, and locked before anything is updated. */
function isReadAgain(part: string): boolean {
  return ['locked', 'asked', 'settling'].includes(part);
}

function lockedText([streams]: readonly string[]): string {
  return `SELECT i.*, s.tid FROM unnest(${streams}::stream_write[]) AS i
    CROSS JOIN LATERAL (SELECT ctid AS tid FROM streams WHERE stream = i.stream FOR NO KEY UPDATE) s`;
}

/**
 * By the place of the row that was locked: whatever the planner believes of the table, that is one page. A row that was
 * changed while its lock was waited for has moved, and counts as one that is not as it was read.
 */
function updatedText(hasAsked: boolean, hasSettling: boolean): string {
  return `UPDATE streams s SET head = i.head, last_time_ms = i.time_ms,
      least_reader = greatest(s.least_reader, ${leastReaderVersion}),
      wake_at = CASE WHEN i.wake_at IS NULL THEN s.wake_at ELSE least(coalesce(s.wake_at, i.wake_at), i.wake_at) END,
      kind = i.kind, agent_id = i.agent_id, status = i.status, archived_at = i.archived_at, summary = i.summary
    FROM locked i WHERE s.ctid = i.tid AND s.stream = i.stream AND s.head = i.base_head AND s.last_time_ms <= i.time_ms AND (s.erased_at IS NULL) IS TRUE
      AND (i.fence IS NULL OR (s.fence = i.fence AND s.owner IS NOT NULL))
      ${hasAsked ? `AND ${notAskedBefore}` : ''} ${hasSettling ? `AND ${isOpen}` : ''}
    RETURNING s.stream, s.organization, s.project`;
}

/** A key that is there already stops its stream's part; a key that is written at this moment stops at the row. */
const notAskedBefore =
  'NOT EXISTS (SELECT FROM asked a JOIN requests r ON r.stream = a.stream AND r.key = a.key WHERE a.stream = s.stream)';

/** Settling what is not open is the caller's bug: nothing of the append happens. */
const isOpen = `NOT EXISTS (SELECT FROM settling t WHERE t.stream = s.stream AND NOT EXISTS (SELECT FROM reservations r
  WHERE r.id = t.id AND r.stream = s.stream AND r.settled_at IS NULL))`;

function writtenText([events]: readonly string[]): string {
  return `INSERT INTO events (organization, project, stream, seq, id, type, schema_version, time, actor, thread, turn, call,
      causation, fence, audience, public_commitment, private_commitment, leaf_hash, public, private)
    SELECT u.organization, u.project, e.* FROM unnest(${events}::event_write[]) AS e JOIN updated u ON u.stream = e.stream`;
}

function askedOf(chains: readonly Chain[]): Part | null {
  const asked = chains.flatMap(({ base, parts }) =>
    parts.flatMap(({ waiting, firstSeq, head }) => {
      const { request } = waiting.request;
      return request === undefined ? [] : [{ stream: base.stream, ...request, firstSeq, head }];
    }),
  );
  if (asked.length === 0) return null;
  const values = [
    texts(asked.map(({ stream }) => stream)),
    texts(asked.map(({ key }) => key)),
    texts(asked.map(({ hash }) => hash)),
    integers(asked.map(({ firstSeq }) => firstSeq)),
    integers(asked.map(({ head }) => head)),
  ];
  return {
    values,
    text: ([stream, key, hash, firstSeq, head]) =>
      `SELECT * FROM unnest(${stream}::text[], ${key}::text[], ${hash}::text[], ${firstSeq}::int8[], ${head}::int8[])
        AS a(stream, key, hash, first_seq, head)`,
  };
}

const requestedText = `INSERT INTO requests (organization, project, stream, key, hash, first_seq, head)
  SELECT u.organization, u.project, a.* FROM asked a JOIN updated u ON u.stream = a.stream`;

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

function settlingOf(chains: readonly Chain[]): Part | null {
  const settles = reservationsOf(chains, 'settle');
  if (settles.length === 0) return null;
  const values = [
    texts(settles.map(({ request }) => request.stream)),
    texts(settles.map(({ it }) => it.id)),
    integers(settles.map(({ it }) => it.costMicros)),
    texts(settles.map(({ time }) => time)),
  ];
  return {
    values,
    text: ([stream, id, costMicros, time]) =>
      `SELECT * FROM unnest(${stream}::text[], ${id}::text[], ${costMicros}::int8[], ${time}::text[])
        AS t(stream, id, cost_micros, time)`,
  };
}

const settledText = `UPDATE reservations r SET settled_at = t.time, cost_micros = t.cost_micros
  FROM settling t JOIN updated u ON u.stream = t.stream
  WHERE r.id = t.id AND r.stream = t.stream AND r.settled_at IS NULL`;

function reservedOf(chains: readonly Chain[]): Part | null {
  const reserves = reservationsOf(chains, 'reserve');
  if (reserves.length === 0) return null;
  const values = [
    texts(reserves.map(({ request }) => request.stream)),
    texts(reserves.map(({ it }) => it.id)),
    integers(reserves.map(({ it }) => it.amountMicros)),
    texts(reserves.map(({ time }) => time)),
  ];
  return {
    values,
    text: ([stream, id, amountMicros, time]) =>
      `INSERT INTO reservations (organization, project, stream, id, amount_micros, reserved_at)
        SELECT u.organization, u.project, n.*
        FROM unnest(${stream}::text[], ${id}::text[], ${amountMicros}::int8[], ${time}::text[])
          AS n(stream, id, amount_micros, time)
        JOIN updated u ON u.stream = n.stream`,
  };
}

function sentOf(chains: readonly Chain[]): Part | null {
  const messages = chains.flatMap(({ base, parts }) =>
    parts.flatMap(({ waiting }) => waiting.request.outbox.map((one) => ({ stream: base.stream, ...one }))),
  );
  if (messages.length === 0) return null;
  const values = [
    texts(messages.map(({ stream }) => stream)),
    texts(messages.map(({ id }) => id)),
    texts(messages.map(({ kind }) => kind)),
    texts(messages.map(({ body }) => body)),
  ];
  return {
    values,
    text: ([stream, id, kind, body]) =>
      `INSERT INTO outbox (organization, project, stream, id, kind, body)
        SELECT u.organization, u.project, m.stream, m.id, m.kind, m.body
        FROM unnest(${stream}::text[], ${id}::text[], ${kind}::text[], ${body}::text[])
          WITH ORDINALITY AS m(stream, id, kind, body, place)
        JOIN updated u ON u.stream = m.stream ORDER BY m.place`,
  };
}
