/**
 * One open database: the connection, its prepared statements, the keys of its streams and the summary reducer. What
 * the operations (`append.ts`, `claims.ts`, …) work on; it lives in the worker thread.
 */
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { loadMasterKey, masterKeyPath } from '../master-key.ts';
import type { Refusal } from '../refusals.ts';
import type { Summarize } from '../store.ts';
import { Keys } from './keys.ts';
import { migrate } from './migrate.ts';
import { migrations } from './migrations/index.ts';
import type { Statements } from './statements.ts';
import { prepareStatements } from './statements.ts';
import { Summaries } from './thread/summaries.ts';

export type Database = {
  db: DatabaseSync;
  statements: Statements;
  keys: Keys;
  summaries: Summaries;
  summarize: Summarize;
};

/** The caller holds the directory's lock. */
export function openDatabase(
  directory: string,
  summarize: Summarize,
  maxPages: number | null,
): { status: 'ok'; database: Database } | { status: 'refused'; refusal: Refusal } {
  const db = new DatabaseSync(path.join(directory, 'scriptorium.db'), { timeout: 1_000 });
  try {
    // FULL: an acknowledged commit is fsynced (L2). secure_delete FAST zeroes what is freed where that costs no I/O;
    // erasure itself raises it to ON.
    db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
      PRAGMA secure_delete = FAST; PRAGMA journal_size_limit = 16777216; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;`);
    if (maxPages !== null) db.exec(`PRAGMA max_page_count = ${maxPages}`);
    const refusal = migrate(db, migrations);
    if (refusal !== null) return refuse(db, refusal);
    const sample = db.prepare('SELECT stream FROM stream_keys LIMIT 1').get();
    const loaded = loadMasterKey(directory, sample !== undefined);
    if (loaded.status === 'refused') return refuse(db, loaded.refusal);
    const statements = prepareStatements(db);
    const keys = new Keys(loaded.key, statements);
    if (typeof sample?.stream === 'string' && !keys.opens(sample.stream)) {
      return refuse(db, { kind: 'master_key_wrong', path: masterKeyPath(directory) });
    }
    const summaries = new Summaries(statements);
    return { status: 'ok', database: { db, statements, keys, summaries, summarize } };
  } catch (error) {
    db.close();
    throw error;
  }
}

function refuse(db: DatabaseSync, refusal: Refusal): { status: 'refused'; refusal: Refusal } {
  db.close();
  return { status: 'refused', refusal };
}
