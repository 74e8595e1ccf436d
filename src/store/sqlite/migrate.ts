/**
 * Brings the schema up to this release's revision. Each revision is one transaction that first takes the write lock
 * and looks again, so two racing processes apply it once. A database that is ahead is accepted unless a revision we do
 * not know is marked breaking.
 */
import type { DatabaseSync } from 'node:sqlite';
import type { Refusal } from '../refusals.ts';
import type { Migration } from './migrations/index.ts';

export function migrate(db: DatabaseSync, migrations: readonly Migration[]): Refusal | null {
  db.exec(
    'CREATE TABLE IF NOT EXISTS migrations (revision INTEGER PRIMARY KEY, name TEXT NOT NULL, breaking INTEGER NOT NULL, applied_at TEXT NOT NULL)',
  );
  const supported = migrations.at(-1)?.revision ?? 0;
  const newest = db
    .prepare('SELECT max(revision) AS revision FROM migrations WHERE breaking = 1 AND revision > ?')
    .get(supported);
  if (typeof newest?.revision === 'number') {
    return { kind: 'schema_too_new', revision: newest.revision, supported };
  }
  const applied = db.prepare('SELECT 1 FROM migrations WHERE revision = ?');
  for (const migration of migrations) {
    if (applied.get(migration.revision) === undefined) apply(db, migration);
  }
  return null;
}

function apply(db: DatabaseSync, migration: Migration): void {
  db.exec('BEGIN IMMEDIATE');
  try {
    const { changes } = db
      .prepare('INSERT OR IGNORE INTO migrations (revision, name, breaking, applied_at) VALUES (?, ?, ?, ?)')
      .run(migration.revision, migration.name, migration.breaking ? 1 : 0, new Date().toISOString());
    if (changes === 1) db.exec(migration.sql);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  }
}
