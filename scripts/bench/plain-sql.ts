/**
 * What a database does by itself: one row in one transaction, synced before it answers, over as many connections as
 * there are sessions. No fence, no sequence, no hash, no sealing: the floor that appends of ours are read beside.
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';

export type Plain = {
  /** One writer's next durable insert. Writers are numbered from 0. */
  insert(writer: number, payload: string): Promise<void>;
  close(): Promise<void>;
};

/** SQLite has one writer at a time: more connections would only wait for its lock, so there is one. */
export function plainSqlite(folder: string): Plain {
  const database = new DatabaseSync(join(folder, 'plain.db'));
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  database.exec(
    'CREATE TABLE plain (stream TEXT, seq INTEGER, payload TEXT, PRIMARY KEY (stream, seq)) STRICT',
  );
  const statement = database.prepare('INSERT INTO plain (stream, seq, payload) VALUES (?, ?, ?)');
  let seq = 0;
  return {
    insert: async (writer, payload) => {
      seq += 1;
      statement.run(`s${writer}`, seq, payload);
    },
    close: async () => database.close(),
  };
}

export async function plainPostgres(url: string, writers: number): Promise<Plain> {
  const clients = Array.from({ length: writers }, () => new pg.Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  const first = clients[0] as pg.Client;
  await first.query(
    'CREATE TABLE IF NOT EXISTS plain (stream text, seq int8, payload text, PRIMARY KEY (stream, seq))',
  );
  const text = 'INSERT INTO plain (stream, seq, payload) VALUES ($1, $2, $3)';
  let seq = Number((await first.query('SELECT coalesce(max(seq), 0) AS seq FROM plain')).rows[0].seq);
  return {
    insert: async (writer, payload) => {
      seq += 1;
      await clients[writer]?.query({ name: 'plain', text, values: [`s${writer}`, seq, payload] });
    },
    close: async () => {
      await Promise.all(clients.map((client) => client.end()));
    },
  };
}
