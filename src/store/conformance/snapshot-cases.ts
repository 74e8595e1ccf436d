/** Snapshots of folded states: a cache that is never ahead of its log, and is gone with it. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import type { Cases } from './scratch.ts';
import { appendOf, create, draft, okOf } from './scratch.ts';

const snapshotAt = (seq: number, reader = 1) => ({ seq, reader, data: { of: seq, text: 'ü' } });
const planted = 'PLANTED-SNAPSHOT-5d1e';

async function filesOf(directory: string): Promise<Buffer> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  // Closing the lock file here would drop the lock of this very process.
  const files = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('lock.db'));
  return Buffer.concat(
    await Promise.all(files.map((file) => readFile(path.join(file.parentPath, file.name)))),
  );
}

export const snapshotCases: Cases = {
  'one that was saved is there after a restart, as it was': async (scratch) => {
    await create(scratch.store, 's', { events: [draft(), draft()] });
    expect(await scratch.store.snapshot('s')).toBeNull();
    await scratch.store.saveSnapshot('s', snapshotAt(2));
    expect(await scratch.store.snapshot('s')).toEqual(snapshotAt(2));
    expect(await (await scratch.reopen()).snapshot('s')).toEqual(snapshotAt(2));
    expect(await scratch.store.snapshot('another')).toBeNull();
  },

  'one of events that are not there yet is not kept, so that none is ever ahead of its log': async ({
    store,
  }) => {
    await create(store, 's', { events: [draft(), draft()] });
    await store.saveSnapshot('s', snapshotAt(3));
    expect(await store.snapshot('s')).toBeNull();
    await store.saveSnapshot('nobody', snapshotAt(0));
    expect(await store.snapshot('nobody')).toBeNull();
  },

  'a late writer does not put an earlier one back, unless it reads otherwise': async ({ store }) => {
    await create(store, 's', { events: [draft(), draft(), draft()] });
    await store.saveSnapshot('s', snapshotAt(2));
    await store.saveSnapshot('s', snapshotAt(1));
    expect(await store.snapshot('s')).toEqual(snapshotAt(2));
    await store.saveSnapshot('s', snapshotAt(3));
    expect(await store.snapshot('s')).toEqual(snapshotAt(3));
    await store.saveSnapshot('s', snapshotAt(1, 2));
    expect(await store.snapshot('s')).toEqual(snapshotAt(1, 2));
  },

  'erasure takes it, and none can be saved of what is erased': async (scratch) => {
    const { store } = scratch;
    await create(store, 's');
    await store.saveSnapshot('s', snapshotAt(1));
    okOf(await store.append(appendOf('s', { eraseStream: true })));
    expect(await store.snapshot('s')).toBeNull();
    await store.saveSnapshot('s', snapshotAt(2));
    expect(await (await scratch.reopen()).snapshot('s')).toBeNull();
  },

  'it is sealed: nothing of it lies in clear in any file': async ({ store, directory, engine }) => {
    await create(store, 's', { events: [draft({ type: 'test.clear_marker' })] });
    await store.saveSnapshot('s', { seq: 1, reader: 1, data: { text: planted } });
    const bytes = await (engine.bytesAtRest ?? filesOf)(directory);
    expect(bytes.includes('test.clear_marker')).toBe(true);
    expect(bytes.includes(planted)).toBe(false);
  },
};
