/** Leaves, commitments, sealing and erasure (G4, and the erasure promise), checked with code of their own. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import type { Json } from '../../protocol/json.ts';
import type { Leaf } from '../store.ts';
import type { Cases } from './scratch.ts';
import { appendOf, claimed, create, draft, okOf, readAll, setting, tenant } from './scratch.ts';

/** Written against the description in docs/design/store.md, not against `seal.ts`. */
function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const names = Object.keys(value).sort((a, b) => (a < b ? -1 : 1));
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name] ?? null)}`).join(',')}}`;
}

function recompute(leaf: Leaf): string {
  const { leafHash: _h, commitments, salts: _s, erased: _e, ...clear } = leaf;
  const document = canonical({
    ...clear,
    publicCommitment: commitments.public,
    privateCommitment: commitments.private,
  });
  return createHash('sha256')
    .update(Buffer.concat([Buffer.from([0]), Buffer.from(document)]))
    .digest('hex');
}

function commit(salt: string, payload: Json): string {
  return createHash('sha256')
    .update(`${salt}${Buffer.from(canonical(payload)).toString('hex')}`, 'hex')
    .digest('hex');
}

/** Every byte under the directory, but the lock file: closing it here would drop the lock of this very process. */
async function bytesOf(directory: string): Promise<Buffer> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('lock.db'));
  return Buffer.concat(
    await Promise.all(files.map(({ parentPath, name }) => readFile(path.join(parentPath, name)))),
  );
}

const planted = 'PLANTED-SECRET-b7f3a1';

export const proofCases: Cases = {
  'leaf hashes and commitments can be recomputed by someone else': async ({ store }) => {
    const { fence } = await claimed(store, 's');
    const events = [
      draft({ public: { z: 1, a: 'ü' }, private: { items: [{ b: 1, a: null }] }, thread: 't', call: 'c' }),
      draft({ audience: 'internal', turn: 'u', causation: 'sevt_x' }),
    ];
    await store.append(appendOf('s', { events, fence }));
    const log = await readAll(store, 's');
    const leaves = await store.leaves('s', 0, 10);
    expect(leaves).toHaveLength(3);
    for (const [n, leaf] of leaves.entries()) {
      const event = log[n];
      expect(recompute(leaf)).toBe(leaf.leafHash);
      expect(leaf.leafHash).toBe(event?.leafHash);
      expect(commit(leaf.salts?.public ?? '', event?.public ?? null)).toBe(leaf.commitments.public);
      if (event?.private === null) expect(leaf.commitments.private).toBeNull();
      else expect(commit(leaf.salts?.private ?? '', event?.private ?? null)).toBe(leaf.commitments.private);
    }
  },

  'equal payloads have unequal commitments, so nobody can guess one from another': async ({ store }) => {
    await create(store, 's', { events: [draft({ public: { a: 1 } }), draft({ public: { a: 1 } })] });
    const [one, two] = await store.leaves('s', 0, 2);
    expect(one?.commitments.public).not.toBe(two?.commitments.public);
  },

  'no plaintext of a payload or a summary lies in any file, neither open nor closed': async ({
    store,
    directory,
    engine,
  }) => {
    const bytesNow = (): Promise<Buffer> => (engine.bytesAtRest ?? bytesOf)(directory);
    const message = draft({ public: { text: planted }, private: { text: planted } });
    await create(store, 's', { events: [message, setting({ title: planted })] });
    await store.append(appendOf('s', { events: [draft({ type: 'test.clear_marker' })] }));
    const bytes = await bytesNow();
    // The search would find what is in clear, so finding nothing means something.
    expect(bytes.includes('test.clear_marker')).toBe(true);
    expect(bytes.includes(planted)).toBe(false);
    await store.close();
    expect((await bytesNow()).includes(planted)).toBe(false);
  },

  'erasure takes the payloads and the summary and leaves every proof as it was': async (scratch) => {
    const { store } = scratch;
    await create(store, 's', {
      events: [draft({ public: { text: planted }, private: { p: 1 } }), setting({ title: planted })],
    });
    await create(store, 'other', { events: [draft({ public: { text: 'kept' } })] });
    const before = await store.leaves('s', 0, 10);
    okOf(
      await store.append(appendOf('s', { events: [draft({ type: 'session.deleted' })], eraseStream: true })),
    );
    const blank = { public: {}, private: null, erased: true };
    for (const event of await readAll(store, 's')) expect(event).toMatchObject(blank);
    for (const event of await readAll(await scratch.reopen(), 's')) expect(event).toMatchObject(blank);
    const after = await scratch.store.leaves('s', 0, 10);
    expect(after.map(({ type }) => type)).toEqual(['test.happened', 'test.happened', 'session.deleted']);
    for (const leaf of after) expect(recompute(leaf)).toBe(leaf.leafHash);
    const unopened = before.map((leaf) => ({ ...leaf, salts: null, erased: true }));
    expect(after.slice(0, 2)).toEqual(unopened);
    expect(after.every(({ salts }) => salts === null)).toBe(true);
    expect(await scratch.store.stream(tenant, 's')).toMatchObject({ erased: true, summary: null, head: 3 });
    expect((await readAll(scratch.store, 'other'))[0]?.public).toEqual({ text: 'kept' });
  },

  'an erased stream takes no more events, is not listed, claimed or created again, and its owner is fenced':
    async (scratch) => {
      const { store } = scratch;
      const { fence } = await claimed(store, 's');
      const request = { key: 'delete', hash: 'h' };
      const erase = appendOf('s', { eraseStream: true, request, wakeAt: 0 });
      okOf(await store.append(erase));
      expect(await store.append(erase)).toMatchObject({ status: 'duplicate', firstSeq: 2 });
      expect(await store.append(appendOf('s', { fence }))).toMatchObject({
        status: 'conflict',
        reason: 'missing',
      });
      expect(await store.append(appendOf('s', { create: true }))).toMatchObject({ reason: 'exists' });
      expect(await store.release('s', fence, 2, 0)).toBe('fenced');
      expect(await store.claim('b', 1)).toEqual([]);
      expect(
        await store.listStreams({
          ...tenant,
          kind: 'session',
          order: 'asc',
          includeArchived: true,
          limit: 9,
        }),
      ).toEqual([]);
    },
};
