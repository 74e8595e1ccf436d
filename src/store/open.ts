/**
 * Opens the store and the blobs. One place decides which engine: a database URL is Postgres', a directory SQLite's.
 * Rejects with an error of `refusals.ts` where it must not be opened, with `StoreUnavailable` where it cannot be now.
 */
import type { DatabaseCheck } from './postgres/connection/probe.ts';
import { openSqliteStore } from './sqlite/engine.ts';
import type { Store } from './store.ts';

type Common = {
  /** Module that exports the summary reducer as `summarize`; the engine imports it where it reduces. */
  summarizeModule: URL;
  /** Milliseconds since the epoch. */
  now?: () => number;
};

/** A directory that one process owns. */
export type OpenEmbedded = Common & { directory: string };

/** A database that many processes share. */
export type OpenFleet = Common & {
  /** postgres://user:password@host:5432/database?sslmode=…&sslrootcert=… */
  databaseUrl: string;
  /** 32 bytes that every process of the deployment has. */
  masterKeyFile: string;
  /** Connections for work; liveness and notifications take one more each. */
  poolSize?: number;
};

export type OpenStore = OpenEmbedded | OpenFleet;

export async function openStore(options: OpenStore): Promise<Store> {
  if (!('databaseUrl' in options)) return openSqliteStore(options);
  // An embedded server never loads the driver.
  const { openPostgresStore } = await import('./postgres/engine.ts');
  return openPostgresStore(options);
}

/** How a Postgres server is set, and what to do about each lack. Never rejects. */
export async function probeDatabase(databaseUrl: string): Promise<DatabaseCheck[]> {
  return (await import('./postgres/connection/probe.ts')).probeDatabase(databaseUrl);
}

export { openBlobs } from './blobs.ts';
