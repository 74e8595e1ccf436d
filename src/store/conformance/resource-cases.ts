/** Versioned rows beside the log, and the lists over rows and streams. */
import { expect } from 'vitest';
import type { ListResources, ListStreams, Resource, Store, StreamRow } from '../store.ts';
import type { Cases } from './scratch.ts';
import { appendOf, create, okOf, put, readAll, setting, stranger, tenant } from './scratch.ts';

const agents: ListResources = { ...tenant, kind: 'agent', limit: 100 };
const sessions: ListStreams = { ...tenant, kind: 'session', order: 'desc', limit: 100 };

function day(n: number): string {
  return new Date(Date.UTC(2026, 0, n)).toISOString();
}

async function pagesOfStreams(store: Store, query: ListStreams): Promise<string[]> {
  const seen: string[] = [];
  let page: StreamRow[] = await store.listStreams(query);
  while (page.length > 0) {
    expect(page.length).toBeLessThanOrEqual(query.limit);
    seen.push(...page.map(({ stream }) => stream));
    const { createdAt, stream } = page.at(-1) as StreamRow;
    page = await store.listStreams({ ...query, after: { createdAt, stream } });
  }
  return seen;
}

async function pagesOfResources(store: Store, query: ListResources): Promise<Resource[]> {
  const seen: Resource[] = [];
  let page = await store.listResources(query);
  while (page.length > 0) {
    expect(page.length).toBeLessThanOrEqual(query.limit);
    seen.push(...page);
    page = await store.listResources({ ...query, after: page.at(-1) as Resource });
  }
  return seen;
}

export const resourceCases: Cases = {
  'a resource is written with its event or not at all': async (scratch) => {
    const { store } = scratch;
    await create(store, 'org', { resources: [put('agent', 'a')] });
    const moved = appendOf('org', { expectedSeq: 0, resources: [put('agent', 'b')] });
    expect(await store.append(moved)).toMatchObject({ status: 'moved' });
    expect(await store.resource(tenant, 'agent', 'b')).toBeNull();
    expect(await store.resource(stranger, 'agent', 'a')).toBeNull();
    const reopened = await scratch.reopen();
    expect(await reopened.resource(tenant, 'agent', 'a')).toEqual({ ...tenant, ...put('agent', 'a') });
  },

  'versions pile up; the newest is the default and an old one stays as it was': async ({ store }) => {
    await create(store, 'org', { resources: [put('agent', 'a', { body: { v: 1 } })] });
    okOf(
      await store.append(appendOf('org', { resources: [put('agent', 'a', { version: 2, body: { v: 2 } })] })),
    );
    expect((await store.resource(tenant, 'agent', 'a'))?.body).toEqual({ v: 2 });
    expect((await store.resource(tenant, 'agent', 'a', 1))?.body).toEqual({ v: 1 });
    expect(await store.resource(tenant, 'agent', 'a', 3)).toBeNull();
  },

  'a version that is taken is a conflict that writes nothing at all': async ({ store }) => {
    await create(store, 'org', {
      resources: [put('agent', 'a'), put('agent', 'a', { version: 2, body: { v: 2 } })],
    });
    for (const version of [1, 2]) {
      const clash = appendOf('org', {
        resources: [put('agent', 'n'), put('agent', 'a', { version, body: { v: 9 } })],
      });
      expect(await store.append(clash)).toMatchObject({ status: 'conflict', reason: 'version' });
    }
    expect(await store.resource(tenant, 'agent', 'n')).toBeNull();
    expect(await readAll(store, 'org')).toHaveLength(1);
  },

  'of concurrent updates to one version exactly one wins': async ({ store }) => {
    await create(store, 'org', { resources: [put('agent', 'a')] });
    const results = await Promise.all(
      [1, 2, 3, 4].map((n) =>
        store.append(appendOf('org', { resources: [put('agent', 'a', { version: 2, body: { n } })] })),
      ),
    );
    expect(results.map(({ status }) => status).sort()).toEqual(['conflict', 'conflict', 'conflict', 'ok']);
  },

  'the newest version put again with the same body only changes its life': async ({ store }) => {
    await create(store, 'org', { resources: [put('agent', 'a', { body: { x: 1, y: 2 }, uniqueName: 'n' })] });
    const archived = put('agent', 'a', { body: { y: 2, x: 1 }, archivedAt: day(9), updatedAt: day(9) });
    okOf(await store.append(appendOf('org', { resources: [archived] })));
    expect(await store.resource(tenant, 'agent', 'a')).toMatchObject({ archivedAt: day(9), version: 1 });
    expect(await store.listResources(agents)).toEqual([]);
    expect(await store.listResources({ ...agents, includeArchived: true })).toHaveLength(1);
  },

  'a name is unique among live rows of its tenant and kind, and free again after archival': async ({
    store,
  }) => {
    const named = (id: string) => put('agent', id, { uniqueName: 'scribe' });
    await create(store, 'org', { resources: [named('a')] });
    expect(await store.append(appendOf('org', { resources: [named('b')] }))).toMatchObject({
      reason: 'name',
    });
    await create(store, 'other', { ...stranger, resources: [named('b')] });
    okOf(
      await store.append(appendOf('org', { resources: [put('environment', 'b', { uniqueName: 'scribe' })] })),
    );
    okOf(await store.append(appendOf('org', { resources: [{ ...named('a'), version: 2, body: { v: 2 } }] })));
    const gone = { ...named('a'), version: 2, body: { v: 2 }, archivedAt: day(9) };
    okOf(await store.append(appendOf('org', { resources: [gone, named('b')] })));
    const back = store.append(appendOf('org', { resources: [{ ...gone, archivedAt: null }] }));
    expect(await back).toMatchObject({ status: 'conflict', reason: 'name' });
  },

  'an old version no longer holds its name': async ({ store }) => {
    await create(store, 'org', { resources: [put('agent', 'a', { uniqueName: 'old' })] });
    const renamed = put('agent', 'a', { version: 2, uniqueName: 'new', body: { v: 2 } });
    okOf(
      await store.append(appendOf('org', { resources: [renamed, put('agent', 'b', { uniqueName: 'old' })] })),
    );
    expect((await store.resourceByName('agent', 'old'))?.id).toBe('b');
    expect((await store.resourceByName('agent', 'new'))?.id).toBe('a');
  },

  'a lookup by name crosses tenants, sees only live rows and only its kind': async ({ store }) => {
    await create(store, 'org', { ...stranger, resources: [put('api_key', 'k', { uniqueName: 'hash' })] });
    expect(await store.resourceByName('api_key', 'hash')).toMatchObject({ ...stranger, id: 'k' });
    expect(await store.resourceByName('agent', 'hash')).toBeNull();
    const revoked = put('api_key', 'k', { uniqueName: 'hash', archivedAt: day(9) });
    okOf(await store.append(appendOf('org', { ...stranger, resources: [revoked] })));
    expect(await store.resourceByName('api_key', 'hash')).toBeNull();
  },

  'deletion removes all versions and frees id and name, in the same act if need be': async ({ store }) => {
    await create(store, 'org', {
      resources: [
        put('agent', 'a', { uniqueName: 'n' }),
        put('agent', 'a', { version: 2, body: {}, uniqueName: 'n' }),
      ],
    });
    const swap = {
      deleteResources: [{ kind: 'agent', id: 'a' }],
      resources: [put('agent', 'b', { uniqueName: 'n' })],
    };
    okOf(await store.append(appendOf('org', swap)));
    expect(await store.resource(tenant, 'agent', 'a', 1)).toBeNull();
    okOf(await store.append(appendOf('org', { resources: [put('agent', 'a')] })));
  },

  'resources are listed newest first, page by page, each once, within their times and tenant': async ({
    store,
  }) => {
    const rows = Array.from({ length: 10 }, (_, n) =>
      put('agent', `a${n}`, { createdAt: day(1 + (n >> 1)) }),
    );
    await create(store, 'org', { resources: rows });
    await create(store, 'other', { ...stranger, resources: [put('agent', 'x')] });
    const newer = put('agent', 'a3', { version: 2, body: { v: 2 }, createdAt: day(2) });
    await store.append(appendOf('org', { resources: [newer] }));
    const listed = await pagesOfResources(store, { ...agents, limit: 3 });
    expect(listed.map(({ id }) => id)).toEqual(rows.map(({ id }) => id).reverse());
    expect(listed.find(({ id }) => id === 'a3')?.version).toBe(2);
    const createdAt = { gte: '2026-01-02T00:00:00Z', lte: day(3) };
    const some = await store.listResources({ ...agents, createdAt });
    expect(some.map(({ id }) => id)).toEqual(['a5', 'a4', 'a3', 'a2']);
  },

  'all versions of one id are listed newest first, page by page': async ({ store }) => {
    const versions = [1, 2, 3, 4, 5].map((version) => put('agent', 'a', { version, body: { version } }));
    await create(store, 'org', { resources: [...versions, put('agent', 'b')] });
    const listed = await pagesOfResources(store, { ...agents, versionsOf: 'a', limit: 2 });
    expect(listed.map(({ version }) => version)).toEqual([5, 4, 3, 2, 1]);
  },

  'streams are listed page by page in both orders, each once': async ({ store, clock }) => {
    const names = Array.from({ length: 11 }, (_, n) => `s${String(n).padStart(2, '0')}`);
    for (const [n, name] of names.entries()) {
      clock.nowMs += n % 3 === 0 ? 1_000 : 0;
      await create(store, name);
    }
    await create(store, 'elsewhere', stranger);
    await create(store, 'org', { events: [setting({ kind: 'organization' })] });
    expect(await pagesOfStreams(store, { ...sessions, order: 'asc', limit: 4 })).toEqual(names);
    expect(await pagesOfStreams(store, { ...sessions, limit: 4 })).toEqual([...names].reverse());
  },

  'streams are filtered by agent, status, archival and time of creation': async ({ store, clock }) => {
    const start = clock.nowMs;
    const add = async (name: string, members: Record<string, string>): Promise<void> => {
      await create(store, name, { events: [setting(members)] });
      clock.nowMs += 1_000;
    };
    await add('a', { agent_id: 'one', status: 'idle' });
    await add('b', { agent_id: 'one', status: 'running' });
    await add('c', { agent_id: 'two', status: 'terminated', archived_at: day(3) });
    const names = async (filter: Partial<ListStreams>): Promise<string> =>
      (await store.listStreams({ ...sessions, order: 'asc', ...filter }))
        .map(({ stream }) => stream)
        .join('');
    const at = (n: number): string => new Date(start + n * 1_000).toISOString();
    expect(await names({})).toBe('ab');
    expect(await names({ includeArchived: true })).toBe('abc');
    expect(await names({ agentId: 'one', statuses: ['running', 'terminated'] })).toBe('b');
    expect(await names({ statuses: [] })).toBe('');
    expect(await names({ createdAt: { gte: at(1) } })).toBe('b');
    expect(await names({ createdAt: { gt: at(0), lte: at(2) }, includeArchived: true })).toBe('bc');
    expect(await names({ createdAt: { lt: at(1) } })).toBe('a');
    await store.append(appendOf('b', { events: [setting({ status: 'idle' })] }));
    expect(await names({ statuses: ['idle'] })).toBe('ab');
  },
};
