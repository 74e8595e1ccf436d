/** The SQLite engine as the conformance suite opens it, in the test's process and in the child that gets killed. */
import type { Store } from '../store.ts';
import { openSqliteStore } from './engine.ts';

const summarizeModule = new URL('../conformance/count-summary.ts', import.meta.url);

export function open(
  directory: string,
  options: { now?: () => number; maxPages?: number } = {},
): Promise<Store> {
  return openSqliteStore({ directory, summarizeModule, ...options });
}
