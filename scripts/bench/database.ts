/** A real Postgres for the bench, of its own, with fsync as in production; it ends with the bench. */
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PostgresServer } from '../../test/peers/postgres-server.ts';
import { atEnd, temporaryFolder } from './processes.ts';

export type Database = { server: PostgresServer; name: string; url: string; masterKeyFile: string };

export async function freshDatabase(): Promise<Database> {
  // Room for two stores and for the connections of the plain statements beside them.
  const server = await PostgresServer.start({ settings: { max_connections: '200' } });
  atEnd(() => server.stop());
  const name = 'bench';
  await server.query('postgres', `CREATE DATABASE ${name}`);
  const masterKeyFile = join(await temporaryFolder('keys'), 'master.key');
  await writeFile(masterKeyFile, randomBytes(32), { mode: 0o600 });
  return { server, name, url: server.url(name), masterKeyFile };
}
