/**
 * The advisory locks of this engine. Two numbers name one; the first is ours, so that another program in the same
 * database does not meet us by chance. The server frees a lock the moment the connection that holds it ends.
 */
import { randomInt } from 'node:crypto';
import type { Connection } from './connection/pool.ts';
import { ask } from './connection/pool.ts';

/** "scri", in ASCII. */
export const livenessClass = 0x73637269;
const migrationClass = 0x6d696772;

/** Held until the transaction ends: one process at a time changes the schema. */
export async function lockMigrations(connection: Connection): Promise<void> {
  await connection.query(`SELECT pg_advisory_xact_lock(${migrationClass}, 0)`);
}

/** Takes a lock that nobody has, for as long as the connection lives, and says which. */
export async function lockLiveness(connection: Connection): Promise<number> {
  for (;;) {
    const key = randomInt(1, 2 ** 31);
    const [row] = await ask<{ taken: boolean }>(
      connection,
      'SELECT pg_try_advisory_lock($1::int4, $2::int4) AS taken',
      [livenessClass, key],
    );
    if (row?.taken === true) return key;
  }
}
