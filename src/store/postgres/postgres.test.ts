import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import { storeConformance } from '../conformance.ts';
import { databaseOf, discard, open, serverVariable } from './engine-under-test.ts';

let server: PostgresServer;
beforeAll(async () => {
  server = await PostgresServer.start();
  process.env[serverVariable] = server.url('postgres');
});
afterAll(() => server.stop());

/** The files of the store's database, and the log of all of them, after everything has been written to them. */
async function bytesAtRest(directory: string): Promise<Buffer> {
  await server.query('postgres', 'CHECKPOINT');
  const text = 'SELECT oid::text FROM pg_database WHERE datname = $1';
  const [row] = await server.query<{ oid: string }>('postgres', text, [databaseOf(directory)]);
  const folders = [path.join('base', row?.oid ?? 'none'), 'pg_wal'];
  const files = await Promise.all(
    folders.map((folder) => filesUnder(path.join(server.directory, 'data', folder))),
  );
  return Buffer.concat(await Promise.all(files.flat().map((file) => readFile(file))));
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => path.join(folder, name));
}

const openModule = new URL('./engine-under-test.ts', import.meta.url);
storeConformance('Postgres', { open, openModule, discard, bytesAtRest });
