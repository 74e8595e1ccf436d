/**
 * The Postgres engine as the conformance suite opens it, in the test's process and in the child that gets killed. The
 * test says where its server is in the environment; each directory of the suite gets a database of its own, copied from
 * one whose schema is there already.
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import type { Store } from '../store.ts';
import type { PostgresOptions } from './engine.ts';
import { openPostgresStore } from './engine.ts';

/** URL of the server, with the name of any database. */
export const serverVariable = 'SCRIPTORIUM_TEST_POSTGRES';

const summarizeModule = new URL('../conformance/count-summary.ts', import.meta.url);
const template = 'scriptorium_template';
/** One key for all: a copy of the template knows which key made it. */
const masterKey = Buffer.alloc(32, 7);

export function databaseOf(directory: string): string {
  return path.basename(directory);
}

export function urlOf(database: string): string {
  const server = process.env[serverVariable];
  if (server === undefined) throw new Error(`${serverVariable} does not say where the server is`);
  const url = new URL(server);
  url.pathname = `/${encodeURIComponent(database)}`;
  return url.href;
}

/** Opens the database of a directory, and makes it where it is not there. */
export async function open(directory: string, options: Partial<PostgresOptions> = {}): Promise<Store> {
  const database = databaseOf(directory);
  const [row] = await onServer('SELECT 1 FROM pg_database WHERE datname = $1', [database]);
  if (row === undefined) await create(directory, database);
  return openAt(directory, { databaseUrl: urlOf(database), ...options });
}

export async function discard(directory: string): Promise<void> {
  await onServer(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(databaseOf(directory))} WITH (FORCE)`);
}

async function openAt(
  directory: string,
  options: Partial<PostgresOptions> & { databaseUrl: string },
): Promise<Store> {
  const masterKeyFile = path.join(directory, 'master.key');
  await writeFile(masterKeyFile, masterKey);
  return openPostgresStore({ masterKeyFile, summarizeModule, ...options });
}

async function create(directory: string, database: string): Promise<void> {
  const [row] = await onServer('SELECT 1 FROM pg_database WHERE datname = $1', [template]);
  if (row === undefined) {
    await onServer(`CREATE DATABASE ${template} TEMPLATE template0`);
    await (await openAt(directory, { databaseUrl: urlOf(template) })).close();
  }
  await onServer(`CREATE DATABASE ${pg.escapeIdentifier(database)} TEMPLATE ${template}`);
}

async function onServer(text: string, values: unknown[] = []): Promise<object[]> {
  const client = new pg.Client({ connectionString: urlOf('postgres') });
  await client.connect();
  try {
    return (await client.query<object>(text, values)).rows;
  } finally {
    await client.end();
  }
}
