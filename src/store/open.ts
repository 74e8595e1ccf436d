/**
 * Opens the store and the blobs of a directory. One place decides which engine: a directory is SQLite's.
 * Rejects with `StoreLocked`, `SchemaTooNew` or `MasterKeyRefused` (`refusals.ts`) where it must not be opened.
 */
import { openSqliteStore } from './sqlite/engine.ts';
import type { Store } from './store.ts';

export type OpenStore = {
  directory: string;
  /** Module that exports the summary reducer as `summarize`; the engine imports it where it reduces. */
  summarizeModule: URL;
  /** Milliseconds since the epoch. */
  now?: () => number;
};

export function openStore(options: OpenStore): Promise<Store> {
  return openSqliteStore(options);
}

export { openBlobs } from './blobs.ts';
