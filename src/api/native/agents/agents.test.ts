import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, messageOf, openTestApi } from '../../../../test/sdk/test-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const create = (more: object = {}) =>
  api.ask('POST', '/v1/agents', { name: 'Scribe', model: 'gpt-5.2-codex', ...more });

describe('agents', () => {
  it('come back resolved: every nullable field is there and toolsets are complete', async () => {
    const reply = await create({
      model: { id: 'gpt-5.2-codex', effort: 'high' },
      tools: [
        {
          type: 'agent_toolset_20260401',
          default_config: { permission_policy: { type: 'always_ask' } },
          configs: [
            { name: 'read', permission_policy: { type: 'always_allow' } },
            { name: 'bash', enabled: false },
          ],
        },
        { type: 'custom', name: 'ask_legal', description: 'Ask.', input_schema: { type: 'object' } },
      ],
    });
    expect(reply.status).toBe(200);
    expect(reply.headers.get('request-id')).toMatch(/^req_/);
    expect(reply.body).toMatchObject({
      type: 'agent',
      version: 1,
      description: null,
      system: null,
      multiagent: null,
      archived_at: null,
      mcp_servers: [],
      skills: [],
      metadata: {},
      execution_identity: { type: 'service_account' },
      model: { id: 'gpt-5.2-codex', effort: { type: 'high' }, speed: 'standard' },
    });
    expect((reply.body.tools as unknown[])[0]).toEqual({
      type: 'agent_toolset_20260401',
      default_config: { enabled: true, permission_policy: { type: 'always_ask' } },
      configs: [
        { type: 'read', name: 'read', enabled: true, permission_policy: { type: 'always_allow' } },
        { type: 'bash', name: 'bash', enabled: false, permission_policy: { type: 'always_ask' } },
      ],
    });
  });

  it('rise by one version per effective change and not for a no-op', async () => {
    const { body } = await create({ system: 'Write.', metadata: { team: 'a', old: 'x' } });
    const path = `/v1/agents/${body.id}`;
    const same = await api.ask('POST', path, { system: 'Write.' });
    expect(same.body.version).toBe(1);
    const next = await api.ask('POST', path, { system: '', metadata: { team: 'b', old: null } });
    expect(next.body).toMatchObject({ version: 2, system: null, metadata: { team: 'b' } });
    const first = await api.ask('GET', `${path}?version=1`);
    expect(first.body).toMatchObject({ version: 1, system: 'Write.' });
    const versions = await api.ask('GET', `${path}/versions?limit=1`);
    expect(dataOf(versions).map((one) => one.version)).toEqual([2]);
    const rest = await api.ask('GET', `${path}/versions?limit=1&page=${versions.body.next_page}`);
    expect(dataOf(rest).map((one) => one.version)).toEqual([1]);
    expect(rest.body.next_page).toBeNull();
  });

  it('refuse a stale version even where nothing would change, and tell the SDK not to retry', async () => {
    const { body } = await create();
    const reply = await api.ask('POST', `/v1/agents/${body.id}`, { version: 7, name: 'Scribe' });
    expect(reply.status).toBe(409);
    expect(reply.headers.get('x-should-retry')).toBe('false');
    expect(reply.body.error).toMatchObject({ type: 'conflict_error' });
  });

  it('keep the effort while the model stays and drop it when the model changes', async () => {
    const { body } = await create({ model: { id: 'a', effort: { type: 'low' } } });
    const kept = await api.ask('POST', `/v1/agents/${body.id}`, { model: 'a' });
    expect(kept.body).toMatchObject({ version: 1, model: { effort: { type: 'low' } } });
    const changed = await api.ask('POST', `/v1/agents/${body.id}`, { model: 'b' });
    expect(changed.body.model).toEqual({ id: 'b', speed: 'standard' });
  });

  it('lose no update when many writers change them at once', async () => {
    const { body } = await create();
    const path = `/v1/agents/${body.id}`;
    const replies = await Promise.all(
      Array.from({ length: 8 }, (_, i) => api.ask('POST', path, { metadata: { [`key${i}`]: 'x' } })),
    );
    expect(replies.map((reply) => reply.status)).toEqual(Array(8).fill(200));
    const after = await api.ask('GET', path);
    expect(after.body.version).toBe(9);
    expect(Object.keys(after.body.metadata as object)).toHaveLength(8);
  });

  it('are hidden from lists once archived, still readable, and no longer to be changed', async () => {
    const { body } = await create({ name: 'Old' });
    const path = `/v1/agents/${body.id}`;
    const archived = await api.ask('POST', `${path}/archive`);
    expect(archived.body.archived_at).toEqual(expect.any(String));
    expect((await api.ask('POST', `${path}/archive`)).body).toEqual(archived.body);
    expect((await api.ask('GET', path)).body.archived_at).toBe(archived.body.archived_at);
    expect((await api.ask('GET', `${path}/versions`)).body).toMatchObject({ data: [archived.body] });
    expect((await api.ask('POST', path, { name: 'New' })).status).toBe(400);
    const shown = dataOf(await api.ask('GET', '/v1/agents?limit=100')).map((one) => one.id);
    expect(shown).not.toContain(body.id);
    const all = dataOf(await api.ask('GET', '/v1/agents?limit=100&include_archived=true')).map(
      (one) => one.id,
    );
    expect(all).toContain(body.id);
  });

  it('page without losing or repeating one', async () => {
    const made = new Set<unknown>();
    for (let i = 0; i < 5; i++) made.add((await create({ name: `p${i}` })).body.id);
    const seen: unknown[] = [];
    let page = '';
    do {
      const reply = await api.ask('GET', `/v1/agents?limit=2${page}`);
      seen.push(...dataOf(reply).map((one) => one.id));
      page = reply.body.next_page ? `&page=${reply.body.next_page}` : '';
    } while (page);
    expect(new Set(seen).size).toBe(seen.length);
    for (const id of made) expect(seen).toContain(id);
  });

  it.each([
    [{ name: '' }, 'name'],
    [{ nmae: 'x' }, 'nmae: unknown field'],
    [
      { tools: [{ type: 'agent_toolset_20260401', configs: [{ name: 'bash', permision_policy: {} }] }] },
      'tools.0.configs.0.permision_policy: unknown field',
    ],
    [
      {
        tools: [{ type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'auto' } } }],
      },
      'use "always_ask"',
    ],
    [
      { tools: [{ type: 'agent_toolset_20260401', configs: [{ name: 'web_search' }] }] },
      'web_search is not available',
    ],
    [{ tools: [{ type: 'mcp_toolset', mcp_server_name: 'x' }] }, 'MCP toolsets are not available'],
    [
      { tools: [{ type: 'custom', name: 'bash', description: 'x', input_schema: { type: 'object' } }] },
      'name of a built-in tool',
    ],
    [
      {
        tools: [
          {
            type: 'custom',
            name: 'x',
            description: 'x',
            input_schema: { type: 'object', properties: { a: { $ref: '#' } } },
          },
        ],
      },
      'references are not allowed',
    ],
    [{ mcp_servers: [{ type: 'url', name: 'x', url: 'https://x' }] }, 'MCP servers are not available'],
    [{ skills: [{ type: 'custom', skill_id: 'x' }] }, 'skills are not available'],
    [{ multiagent: { type: 'coordinator', agents: [] } }, 'multiagent is not available'],
    [{ model: { id: 'x', speed: 'fast' } }, 'speed "fast" is not available'],
    [{ model: { id: 'x', effrot: 'low' } }, 'model.effrot: unknown field'],
    [{ model: 7 }, 'model'],
    [{ metadata: { a: 1 } }, 'metadata.a'],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'v'])) },
      'at most 16 pairs',
    ],
  ])('name what is wrong: %j', async (change, message) => {
    const reply = await create(change);
    expect(reply.status).toBe(400);
    expect(messageOf(reply)).toContain(message);
  });

  it('accept what SDK users send to switch web tools off', async () => {
    const reply = await create({
      tools: [{ type: 'agent_toolset_20260401', configs: [{ name: 'web_fetch', enabled: false }] }],
    });
    expect(reply.status).toBe(200);
  });

  it('are not found by an unknown id', async () => {
    const reply = await api.ask('GET', '/v1/agents/agent_nobody');
    expect(reply.status).toBe(404);
    expect(reply.body).toMatchObject({ type: 'error', error: { type: 'not_found_error' } });
  });
});
