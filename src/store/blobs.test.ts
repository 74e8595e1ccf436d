import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openBlobs } from './blobs.ts';
import type { Blobs } from './store.ts';

let directory: string;
let blobs: Blobs;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-blobs-'));
  blobs = openBlobs(directory);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function files(): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

it('bytes are named by their digest and read back in pieces', async () => {
  const bytes = Buffer.from('a manuscript');
  const put = await blobs.put('org_one', bytes);
  expect(put).toEqual({ sha256: sha256(bytes), sizeBytes: 12 });
  expect(Buffer.from((await blobs.read('org_one', put.sha256, 2, 5)) ?? []).toString()).toBe('manus');
  expect(await blobs.read('org_one', put.sha256, 10, 100)).toHaveLength(2);
  expect(await blobs.read('org_one', put.sha256, 12, 100)).toHaveLength(0);
  expect(await blobs.read('org_one', put.sha256, 99, 100)).toHaveLength(0);
});

it('a stream of several megabytes is stored without being held in memory as one', async () => {
  const chunk = Buffer.alloc(300_000, 'q');
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let n = 0; n < 20; n++) yield chunk;
  }
  const put = await blobs.put('org_one', chunks());
  expect(put).toEqual({ sha256: sha256(Buffer.alloc(6_000_000, 'q')), sizeBytes: 6_000_000 });
  const other = openBlobs(directory);
  expect(
    Buffer.alloc(6_000_000, 'q').equals((await other.read('org_one', put.sha256, 0, 1e9)) ?? Buffer.of()),
  ).toBe(true);
});

it('a stream that breaks off leaves nothing behind', async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('half');
    throw new Error('cut off');
  }
  await expect(blobs.put('org_one', broken())).rejects.toThrow('cut off');
  expect(await files()).toEqual([]);
});

it('concurrent puts of the same bytes leave one whole blob', async () => {
  const bytes = Buffer.alloc(100_000, 1);
  await Promise.all(Array.from({ length: 8 }, () => blobs.put('org_one', bytes)));
  expect(await files()).toEqual([sha256(bytes)]);
});

it('one organization does not see the blobs of another, not even by digest', async () => {
  const { sha256: digest } = await blobs.put('org_one', Buffer.from('mine'));
  expect(await blobs.read('org_two', digest, 0, 10)).toBeNull();
  await blobs.delete('org_two', digest);
  expect(await blobs.read('org_one', digest, 0, 10)).not.toBeNull();
  await blobs.delete('org_one', digest);
  await blobs.delete('org_one', digest);
  expect(await blobs.read('org_one', digest, 0, 10)).toBeNull();
});

it.each(['', '.', '..', '../org_one', 'a/b', 'a\\b', 'a\0b', 'a'.repeat(200)])(
  'the organization %j is refused as a path, whatever is asked',
  async (organization) => {
    const digest = 'a'.repeat(64);
    await expect(blobs.put(organization, Buffer.of(1))).rejects.toThrow(/organization/);
    await expect(blobs.read(organization, digest, 0, 1)).rejects.toThrow(/organization/);
    await expect(blobs.delete(organization, digest)).rejects.toThrow(/organization/);
  },
);

it.each(['', '../../master.key', 'A'.repeat(64), 'a'.repeat(63), `${'a'.repeat(64)}\n`])(
  'the digest %j is refused as a path',
  async (digest) => {
    await expect(blobs.read('org_one', digest, 0, 1)).rejects.toThrow(/sha256/);
    await expect(blobs.delete('org_one', digest)).rejects.toThrow(/sha256/);
  },
);
