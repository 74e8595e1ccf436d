/**
 * One open database: the pool, the keys of its streams, what is remembered of them and the summary reducer. What the
 * operations (`append.ts`, `claims.ts`, …) work on.
 */
import { readMasterKey } from '../master-key.ts';
import type { Refusal } from '../refusals.ts';
import type { Summarize } from '../store.ts';
import type { Address } from './connection/address.ts';
import type { Connection, Limits } from './connection/pool.ts';
import { ask, Pool } from './connection/pool.ts';
import { Keys } from './keys.ts';
import { migrate } from './migrate.ts';
import { migrations } from './migrations/index.ts';
import type { Base } from './streams.ts';

/** What has `pg_visible_in_snapshot`, `xid8` and everything else we use, and is still looked after by its makers. */
const leastServerVersion = 140_000;
const maxBases = 1_024;

export type Database = {
  pool: Pool;
  keys: Keys;
  bases: Bases;
  summarize: Summarize;
  nowMs(): number;
};

/** Streams as they were after our last look or commit. Only ever a guess: each write is conditional on it. */
export class Bases {
  readonly #streams = new Map<string, Base>();

  get(stream: string): Base | undefined {
    return this.#streams.get(stream);
  }

  set(stream: string, base: Base): void {
    this.#streams.delete(stream);
    this.#streams.set(stream, base);
    if (this.#streams.size <= maxBases) return;
    const oldest = this.#streams.keys().next();
    if (!oldest.done) this.#streams.delete(oldest.value);
  }

  delete(stream: string): void {
    this.#streams.delete(stream);
  }
}

export type OpenDatabase = {
  address: Address;
  limits: Limits;
  masterKeyFile: string;
  summarize: Summarize;
  nowMs(): number;
};

export async function openDatabase(
  options: OpenDatabase,
): Promise<{ status: 'ok'; database: Database } | { status: 'refused'; refusal: Refusal }> {
  const loaded = readMasterKey(options.masterKeyFile);
  if (loaded.status === 'refused') return loaded;
  const keys = new Keys(loaded.key);
  const pool = new Pool(options.address, options.limits);
  try {
    const refusal =
      (await pool.use(unfitness)) ??
      (await migrate(pool, migrations)) ??
      (await wrongKey(pool, keys, options));
    if (refusal === null) {
      const { summarize, nowMs } = options;
      return { status: 'ok', database: { pool, keys, bases: new Bases(), summarize, nowMs } };
    }
    await pool.end();
    return { status: 'refused', refusal };
  } catch (error) {
    await pool.end();
    throw error;
  }
}

async function unfitness(connection: Connection): Promise<Refusal | null> {
  const [server] = await ask<{ version: number; fsync: string; encoding: string; isStandby: boolean }>(
    connection,
    `SELECT current_setting('server_version_num')::int4 AS version, current_setting('fsync') AS fsync,
      current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS "isStandby"`,
  );
  if (server === undefined) return null;
  const refuse = (reason: string): Refusal => ({ kind: 'server_unfit', reason });
  if (server.version < leastServerVersion) {
    return refuse(`the database server has version ${server.version}; Postgres 14 or newer is needed`);
  }
  if (server.fsync !== 'on')
    return refuse('the database server runs with fsync = off and would lose what it acknowledged');
  if (server.encoding !== 'UTF8')
    return refuse(`the database has encoding ${server.encoding}; it has to be UTF8`);
  return server.isStandby
    ? refuse('the database server is a standby; the URL has to name the primary')
    : null;
}

/** Whoever comes first leaves something that only the same key opens. */
async function wrongKey(pool: Pool, keys: Keys, { masterKeyFile }: OpenDatabase): Promise<Refusal | null> {
  return pool.use(async (connection) => {
    const read = (): Promise<{ check: Uint8Array }[]> =>
      ask(connection, 'SELECT key_check AS check FROM deployment');
    let [row] = await read();
    if (row === undefined) {
      await ask(
        connection,
        'INSERT INTO deployment (is_only, key_check) VALUES (true, $1) ON CONFLICT DO NOTHING',
        [keys.makeCheck()],
      );
      [row] = await read();
    }
    const isRight = row !== undefined && keys.passes(row.check);
    return isRight ? null : { kind: 'master_key_wrong', path: masterKeyFile };
  });
}
