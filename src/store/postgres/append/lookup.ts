/** What a batch has to know before it can refuse anyone: rows, request keys, events and reservations that are there. */
import type { Earlier } from '../../admission.ts';
import type { Found, Waiting } from '../append.ts';
import { pairOf } from '../append.ts';
import type { Connection } from '../connection/pool.ts';
import { texts } from '../connection/values.ts';
import { run } from '../statements.ts';

/** Statements go out together; one that nothing asks for is left out. */
export async function lookUp(connection: Connection, waiting: readonly Waiting[]): Promise<Found> {
  const [requests, events, open] = await Promise.all([
    requestsOf(connection, waiting),
    eventsOf(connection, waiting),
    openReservations(connection, waiting),
  ]);
  return { requests, events, open };
}

type Pair = { stream: string; name: string };

function pairsAsArrays(pairs: readonly Pair[]): [Buffer, Buffer] {
  return [texts(pairs.map(({ stream }) => stream)), texts(pairs.map(({ name }) => name))];
}

async function requestsOf(connection: Connection, waiting: readonly Waiting[]): Promise<Found['requests']> {
  const pairs = waiting.flatMap(({ request: { stream, request } }) =>
    request === undefined ? [] : [{ stream, name: request.key }],
  );
  if (pairs.length === 0) return new Map();
  const rows = await run<Earlier & { stream: string; key: string }>(
    connection,
    'requestsNamed',
    pairsAsArrays(pairs),
  );
  return new Map(rows.map(({ stream, key, ...earlier }) => [pairOf(stream, key), earlier]));
}

async function eventsOf(connection: Connection, waiting: readonly Waiting[]): Promise<Found['events']> {
  const pairs = waiting.flatMap(({ request: { stream, events }, unsureUntilMs }) =>
    unsureUntilMs === null || events[0] === undefined ? [] : [{ stream, name: events[0].id }],
  );
  if (pairs.length === 0) return new Map();
  const rows = await run<{ stream: string; id: string; seq: number; time: string }>(
    connection,
    'eventsNamed',
    pairsAsArrays(pairs),
  );
  return new Map(rows.map(({ stream, id, seq, time }) => [pairOf(stream, id), { seq, time }]));
}

async function openReservations(
  connection: Connection,
  waiting: readonly Waiting[],
): Promise<ReadonlySet<string>> {
  const ids = waiting.flatMap(({ request: { reservation } }) =>
    reservation?.op === 'settle' ? [reservation.id] : [],
  );
  if (ids.length === 0) return new Set();
  const rows = await run<{ id: string }>(connection, 'openReservations', [texts(ids)]);
  return new Set(rows.map(({ id }) => id));
}
