import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, it } from 'vitest';
import { create } from '../conformance/scratch.ts';
import { openSqliteStore } from './engine.ts';

it.each(["data = x'01'", 'seq = 0', 'reader = 2', 'seq = 9'])(
  'a snapshot that somebody has changed (%s) is as good as none, and hurts nothing else',
  async (change) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-snapshots-'));
    const summarizeModule = new URL('../conformance/count-summary.ts', import.meta.url);
    try {
      const store = await openSqliteStore({ directory, summarizeModule });
      await create(store, 's');
      await store.saveSnapshot('s', { seq: 1, reader: 1, data: { a: 1 } });
      await store.close();
      const db = new DatabaseSync(path.join(directory, 'scriptorium.db'));
      db.exec(`UPDATE snapshots SET ${change}`);
      db.close();
      const again = await openSqliteStore({ directory, summarizeModule });
      expect(await again.snapshot('s')).toBeNull();
      expect(await again.read('s', 0, 10)).toHaveLength(1);
      await again.close();
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  },
);
