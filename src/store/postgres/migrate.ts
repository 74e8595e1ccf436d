/**
 * Brings the schema up to this release's revision. Processes that start together take turns at an advisory lock; each
 * revision is one transaction, and Postgres undoes definitions as it undoes rows. A database that is ahead is accepted
 * unless a revision we do not know is marked breaking.
 */
import type { Refusal } from '../refusals.ts';
import type { Connection, Pool } from './connection/pool.ts';
import { ask } from './connection/pool.ts';
import { lockMigrations } from './lock.ts';
import type { Migration } from './migrations/index.ts';

export async function migrate(pool: Pool, migrations: readonly Migration[]): Promise<Refusal | null> {
  const supported = migrations.at(-1)?.revision ?? 0;
  const applied = await pool.use(appliedRevisions);
  const newest = Math.max(0, ...applied.filter((one) => one.breaking).map(({ revision }) => revision));
  if (newest > supported) return { kind: 'schema_too_new', revision: newest, supported };
  const known = new Set(applied.map(({ revision }) => revision));
  for (const migration of migrations) {
    if (!known.has(migration.revision)) await pool.transaction((connection) => apply(connection, migration));
  }
  return null;
}

/** Read without a lock and without making the table, so that a start on a current schema changes nothing. */
async function appliedRevisions(connection: Connection): Promise<{ revision: number; breaking: boolean }[]> {
  const [table] = await ask<{ exists: boolean }>(
    connection,
    "SELECT to_regclass('migrations') IS NOT NULL AS exists",
  );
  if (table?.exists !== true) return [];
  return ask(connection, 'SELECT revision, breaking FROM migrations');
}

async function apply(connection: Connection, migration: Migration): Promise<void> {
  await lockMigrations(connection);
  await connection.query(
    'CREATE TABLE IF NOT EXISTS migrations (revision int8 PRIMARY KEY, name text NOT NULL, breaking bool NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
  );
  const { rowCount } = await connection.query(
    'INSERT INTO migrations (revision, name, breaking) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
    [migration.revision, migration.name, migration.breaking],
  );
  if (rowCount === 1) await connection.query(migration.sql);
}
