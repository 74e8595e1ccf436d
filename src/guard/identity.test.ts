import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { defaultTenant } from '../protocol/tenant.ts';
import { openStore } from '../store/open.ts';
import type { Store } from '../store/store.ts';
import { createApiKey, identify, revocation, storeApiKey, WeakKey } from './identity.ts';

let directory: string;
let store: Store;
const about = { name: 'test', actor: 'operator:test', nowMs: 0 };

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-keys-'));
  const summarizeModule = new URL('../session/summary.ts', import.meta.url);
  store = await openStore({ directory, summarizeModule });
});

afterEach(async () => {
  await store.close();
  await rm(directory, { recursive: true });
});

it('knows a minted key and nobody else, however much a stranger’s looks like it', async () => {
  const { id, key } = await createApiKey(store, about);
  expect(await identify(store, key)).toMatchObject({ keyId: id, actor: `user:${id}`, tenant: defaultTenant });
  for (const wrong of [
    key.slice(0, -1),
    `${key}x`,
    key.toLowerCase(),
    key.replace('sk-', ''),
    '',
    ' ',
    'x'.repeat(5_000),
  ]) {
    expect(await identify(store, wrong)).toBeNull();
  }
});

it('keeps no key in any file, only its hash (S1)', async () => {
  const { key } = await createApiKey(store, about);
  await storeApiKey(store, { ...about, key: 'an-operators-own-key-0123456789' });
  await store.close();
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const bytes = await readFile(path.join(entry.parentPath, entry.name));
    expect(bytes.includes(key.slice(7))).toBe(false);
    expect(bytes.includes('an-operators-own-key')).toBe(false);
  }
});

it('takes an operator’s key once, however often the server starts with it', async () => {
  const key = 'an-operators-own-key-0123456789';
  await storeApiKey(store, { ...about, key });
  const first = await identify(store, key);
  await storeApiKey(store, { ...about, key });
  expect(await identify(store, key)).toEqual(first);
});

it.each(['', 'short', 'with a space in it, long enough', 'ünïcode-key-ünïcode-key', 'x'.repeat(201)])(
  'refuses %j as a key: it could be guessed, or no header carries it',
  async (key) => {
    await expect(storeApiKey(store, { ...about, key })).rejects.toBeInstanceOf(WeakKey);
  },
);

it('is nobody’s any more once it is revoked', async () => {
  const { id, key } = await createApiKey(store, about);
  const end = await revocation(store, defaultTenant, id, 'operator:test', 1);
  if (!end) throw new Error('no such key');
  const { organization } = defaultTenant;
  const ended = await store.append({
    ...defaultTenant,
    stream: organization,
    events: [end.event],
    resources: [end.resource],
  });
  expect(ended.status).toBe('ok');
  expect(await identify(store, key)).toBeNull();
});
