/** Plans are made when a connection first needs them and kept: what was small then must not be read whole for ever. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import { appendOf, create, draft, okOf } from '../conformance/scratch.ts';
import { databaseOf, discard, open, serverVariable } from './engine-under-test.ts';

let server: PostgresServer;
let directory: string;
beforeAll(async () => {
  server = await PostgresServer.start({ settings: { autovacuum: 'off' } });
  process.env[serverVariable] = server.url('postgres');
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-plans-'));
});
afterAll(async () => {
  await discard(directory);
  await rm(directory, { recursive: true, force: true });
  await server.stop();
});

it('appends whose plans were made of empty tables read neither all sessions nor all reservations once there are many', async () => {
  const sessions = 40;
  const store = await open(directory, { poolSize: 1 });
  await create(store, 's0');
  for (const op of ['reserve', 'settle'] as const) {
    for (let n = 0; n < sessions; n++) {
      if (op === 'reserve' && n > 0) await create(store, `s${n}`);
      const id = `r${n}`;
      const reservation = op === 'reserve' ? { op, id, amountMicros: null } : { op, id, costMicros: 1 };
      const request = { key: `${op}-${n}`, hash: 'h' };
      okOf(await store.append(appendOf(`s${n}`, { events: [draft()], reservation, request })));
    }
  }
  // The server's processes tell their counts when they end.
  await store.close();
  const tables = ['streams', 'reservations', 'requests'];
  const whole = await server.query(
    databaseOf(directory),
    'SELECT relname, seq_tup_read::int FROM pg_stat_user_tables WHERE relname = ANY($1) AND seq_tup_read > 0',
    [tables],
  );
  expect(whole).toEqual([]);
  // This index is of all sessions: an append that uses it goes through them.
  const listed = await server.query(
    databaseOf(directory),
    "SELECT idx_scan::int FROM pg_stat_user_indexes WHERE indexrelname = 'streams_listed'",
  );
  expect(listed).toEqual([{ idx_scan: 0 }]);
});
