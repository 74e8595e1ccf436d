/** L8 on a full disk, and what remains on a disk after erasure or tampering. */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { appendOf, create, draft, okOf, put, readAll } from '../conformance/scratch.ts';
import type { Store } from '../store.ts';
import { open } from './engine-under-test.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-disk-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const big = 'x'.repeat(200_000);

/** Appends until the store has no room left; how many were acknowledged. */
async function fill(store: Store, most: number): Promise<number> {
  for (let n = 0; n < most; n++) {
    try {
      okOf(await store.append(appendOf('s', { events: [draft({ public: { big } })] })));
    } catch (error) {
      expect(error).toMatchObject({ name: 'StoreUnavailable' });
      return n;
    }
  }
  throw new Error('the disk never filled');
}

it('a full database refuses, keeps what it acknowledged, answers reads, and goes on when there is room', async () => {
  const store = await open(directory, { maxPages: 500 });
  await create(store, 's', { resources: [put('file', 'ballast', { body: { big: big.repeat(4) } })] });
  const written = await fill(store, 50);
  expect(await readAll(store, 's')).toHaveLength(written + 1);
  okOf(await store.append(appendOf('s', { deleteResources: [{ kind: 'file', id: 'ballast' }] })));
  okOf(await store.append(appendOf('s', { events: [draft({ public: { big } })] })));
  expect((await readAll(store, 's')).map(({ seq }) => seq)).toEqual(
    Array.from({ length: written + 3 }, (_, n) => n + 1),
  );
  await store.close();
});

it('one append that is too big for the disk does not take its neighbours in the same commit with it', async () => {
  const store = await open(directory, { maxPages: 200 });
  await create(store, 's');
  const small = Array.from({ length: 10 }, () => draft());
  const tooBig = store.append(appendOf('s', { events: [draft({ public: { big: big.repeat(10) } })] }));
  const others = small.map((event) => store.append(appendOf('s', { events: [event] })));
  await expect(tooBig).rejects.toMatchObject({ name: 'StoreUnavailable' });
  for (const other of others) okOf(await other);
  expect(await readAll(store, 's')).toHaveLength(11);
  await store.close();
});

/** A file system of two megabytes, or null where this user may not mount one. */
function tinyDisk(at: string): (() => void) | null {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', at], { stdio: 'ignore' });
    return () => execFileSync('umount', [at]);
  } catch {
    return null;
  }
}

it('on a disk without space the store refuses, loses nothing and goes on when space returns', async (test) => {
  const disk = path.join(directory, 'disk');
  await mkdir(disk);
  const unmount = tinyDisk(disk);
  if (unmount === null) return test.skip('needs the right to mount a tmpfs');
  try {
    const ballast = path.join(disk, 'ballast');
    await writeFile(ballast, Buffer.alloc(1_000_000));
    const store = await open(disk);
    await create(store, 's');
    const written = await fill(store, 50);
    expect(await readAll(store, 's')).toHaveLength(written + 1);
    await unlink(ballast);
    okOf(await store.append(appendOf('s', { events: [draft({ public: { big } })] })));
    await store.close();
    const again = await open(disk);
    expect((await readAll(again, 's')).map(({ seq }) => seq)).toEqual(
      Array.from({ length: written + 2 }, (_, n) => n + 1),
    );
    await again.close();
  } finally {
    unmount();
  }
});

it('the bytes of an erased key are nowhere in the database or its WAL, while other keys are', async () => {
  const store = await open(directory);
  await create(store, 's');
  await create(store, 't');
  const db = new DatabaseSync(path.join(directory, 'scriptorium.db'), { readOnly: true });
  const wrapped = (stream: string): Buffer =>
    Buffer.from(
      db.prepare('SELECT wrapped FROM stream_keys WHERE stream = ?').get(stream)?.wrapped as Uint8Array,
    );
  const [erased, kept] = [wrapped('s'), wrapped('t')];
  db.close();
  await store.append(appendOf('s', { eraseStream: true }));
  const names = (await readdir(directory)).filter((name) => name.startsWith('scriptorium.db'));
  const bytes = Buffer.concat(await Promise.all(names.map((name) => readFile(path.join(directory, name)))));
  expect(bytes.includes(kept)).toBe(true);
  expect(bytes.includes(erased)).toBe(false);
  await store.close();
});

it('a payload moved to another event does not open, and is an error, never a wrong answer', async () => {
  const store = await open(directory);
  await create(store, 's', { events: [draft({ public: { n: 1 } }), draft({ public: { n: 2 } })] });
  const db = new DatabaseSync(path.join(directory, 'scriptorium.db'));
  db.exec('UPDATE events SET public = (SELECT public FROM events WHERE seq = 1) WHERE seq = 2');
  db.close();
  await expect(store.read('s', 1, 1)).rejects.toThrow();
  expect((await store.read('s', 0, 1))[0]?.public).toEqual({ n: 1 });
  await store.close();
});
