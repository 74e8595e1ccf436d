import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, makeSession, messageOf, openTestApi, record, say } from '../../../../test/sdk/test-api.ts';
import { newId } from '../../../protocol/ids.ts';
import { defaultTenant } from '../../../protocol/tenant.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const idle = (reason: object = { type: 'end_turn' }) => ({
  type: 'session.status_idle',
  public: { stop_reason: reason, stop_details: null } as never,
});

describe('creating a session', () => {
  it('pins the agent as it was, and later versions do not reach it', async () => {
    const { id, agent } = await makeSession(api, { title: 'Fix it', metadata: { ticket: '7' } });
    await api.ask('POST', `/v1/agents/${agent}`, { system: 'Changed.' });
    const { body } = await api.ask('GET', `/v1/sessions/${id}`);
    expect(body).toMatchObject({
      type: 'session',
      status: 'idle',
      title: 'Fix it',
      metadata: { ticket: '7' },
      agent: { type: 'agent', id: agent, version: 1, system: null, multiagent: null },
      deployment_id: null,
      vault_ids: [],
      budget: null,
      outcome_evaluations: [],
      resources: [],
      archived_at: null,
    });
    expect(body.agent).not.toHaveProperty('metadata');
    expect(body.usage).toMatchObject({ input_tokens: 0, list_cost: { amount: '0', currency: 'USD' } });
  });

  it('with initial events is created running, and they are in the log with their ids', async () => {
    const { body } = await api.ask('POST', '/v1/sessions', {
      ...(await parts()),
      initial_events: [say('Begin.'), say('And go on.')],
    });
    expect(body.status).toBe('running');
    expect(body).not.toHaveProperty('initial_events');
    const events = dataOf(await api.ask('GET', `/v1/sessions/${body.id}/events`));
    expect(events.map((event) => [event.type, event.processed_at])).toEqual([
      ['user.message', null],
      ['user.message', null],
      ['session.status_running', expect.any(String)],
      ['session.thread_status_running', expect.any(String)],
    ]);
    expect((await api.ask('GET', `/v1/sessions/${body.id}`)).body.status).toBe('running');
  });

  it('wakes an engine when there is something to do, and not before', async () => {
    const { id } = await makeSession(api);
    expect((await api.store.stream(defaultTenant, id))?.wakeAt).toBeNull();
    await api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('Hello.')] });
    expect((await api.store.stream(defaultTenant, id))?.wakeAt).toEqual(expect.any(Number));
  });

  it('takes overrides: a value replaces, null clears, the base stays untouched', async () => {
    const agent = await api.ask('POST', '/v1/agents', {
      name: 'Base',
      model: { id: 'm', effort: 'max' },
      system: 'Base.',
      tools: [{ type: 'agent_toolset_20260401' }],
    });
    const { environment_id } = await parts();
    const create = (overrides: object) =>
      api.ask('POST', '/v1/sessions', {
        agent: { type: 'agent_with_overrides', id: agent.body.id, ...overrides },
        environment_id,
      });
    const { body } = await create({ model: { id: 'other', effort: 'low' }, system: null, tools: [] });
    expect(body.agent).toMatchObject({ id: agent.body.id, version: 1, system: null, tools: [] });
    expect((body.agent as { model: object }).model).toEqual({ id: 'other', speed: 'standard' });
    expect((await create({})).body.agent).toMatchObject({
      system: 'Base.',
      model: { effort: { type: 'max' } },
    });
    const cleared = await create({ model: null });
    expect(cleared.body.error).toMatchObject({ details: { error_code: 'agent_model_required' } });
  });

  it('refuses what is archived, unknown or not built, and says which', async () => {
    const base = await parts();
    await api.ask('POST', `/v1/environments/${base.environment_id}/archive`);
    const archived = await api.ask('POST', '/v1/sessions', base);
    expect(archived.body.error).toMatchObject({ details: { error_code: 'environment_archived' } });
    const fresh = await parts();
    const refusals: [object, number, string][] = [
      [{ agent: 'agent_x' }, 404, 'there is no agent agent_x'],
      [{ agent: { type: 'agent', id: fresh.agent, version: 9 } }, 404, 'no version 9'],
      [{ environment_id: 'env_x' }, 404, 'there is no environment env_x'],
      [{ vault_ids: ['vlt_1'] }, 400, 'vault_ids.0: there is no vault vlt_1'],
      [{ vault_ids: ['vlt_1', 'vlt_1'] }, 400, 'names a vault twice'],
      [{ vault_ids: Array(51).fill('vlt_1') }, 400, 'vault_ids'],
      [
        { budget: { type: 'limit', max_list_cost: { amount: '1', currency: 'USD' } } },
        400,
        'budgets are not available',
      ],
      [
        { resources: [{ type: 'github_repository', url: 'https://github.com/a/b' }] },
        400,
        'github_repository is not',
      ],
      [{ resources: [{ type: 'file', file_id: 'file_x' }] }, 404, 'there is no file file_x'],
      [{ initial_events: [{ type: 'user.interrupt' }] }, 400, 'only user.message'],
      [
        { initial_events: [{ type: 'user.define_outcome', description: 'x' }] },
        400,
        'outcomes are not available',
      ],
      [{ title: 7 }, 400, 'title'],
    ];
    for (const [change, status, message] of refusals) {
      const reply = await api.ask('POST', '/v1/sessions', { ...fresh, ...change });
      expect([reply.status, messageOf(reply)]).toEqual([status, expect.stringContaining(message)]);
    }
  });
});

describe('session resources', () => {
  it('mount a copy with an id of its own that outlives the upload and goes with the session', async () => {
    const form = new FormData();
    form.set('file', new File(['a,b\n'], 'data.csv', { type: 'text/csv' }));
    const upload = (await (await api.fetch('/v1/files', { method: 'POST', body: form })).json()) as {
      id: string;
    };
    const { id } = await makeSession(api, {
      resources: [{ type: 'file', file_id: upload.id, mount_path: '/data.csv' }],
    });
    const [resource] = dataOf(await api.ask('GET', `/v1/sessions/${id}/resources`));
    expect(resource).toMatchObject({ type: 'file', mount_path: '/mnt/session/uploads/data.csv' });
    expect(resource?.file_id).not.toBe(upload.id);
    expect((await api.ask('GET', `/v1/sessions/${id}/resources/${resource?.id}`)).body).toEqual(resource);
    await api.ask('DELETE', `/v1/files/${upload.id}`);
    const copy = await api.fetch(`/v1/files/${resource?.file_id}/content`);
    expect(await copy.text()).toBe('a,b\n');
    expect(dataOf(await api.ask('GET', `/v1/files?scope_id=${id}`))).toHaveLength(1);
    await api.ask('DELETE', `/v1/sessions/${id}`);
    expect((await api.ask('GET', `/v1/files/${resource?.file_id}`)).status).toBe(404);
  });

  it('refuse what the hands could not lay out', async () => {
    const form = new FormData();
    form.set('file', new File(['x'], 'x'));
    const { id } = (await (await api.fetch('/v1/files', { method: 'POST', body: form })).json()) as {
      id: string;
    };
    const base = await parts();
    const mount = (...paths: string[]) =>
      api.ask('POST', '/v1/sessions', {
        ...base,
        resources: paths.map((mount_path) => ({ type: 'file', file_id: id, mount_path })),
      });
    expect(messageOf(await mount('/in/data.csv'))).toContain(
      'resources.0.mount_path: directories are not available',
    );
    expect(messageOf(await mount('/'))).toContain('names no file');
    expect(messageOf(await mount('ä'.repeat(200)))).toContain('at most 255 bytes');
    expect(messageOf(await mount('/a', 'a'))).toContain(
      'resources.1.mount_path: /mnt/session/uploads/a is taken',
    );
    expect((await mount('/mnt/session/uploads/a', '/b')).status).toBe(200);
  });

  it('pin a repository bundle for the hands, and show no digest', async () => {
    const form = new FormData();
    form.set('file', new File(['bundle'], 'repo.bundle'));
    const upload = (await (await api.fetch('/v1/files', { method: 'POST', body: form })).json()) as {
      id: string;
    };
    const head = 'a'.repeat(40);
    const { id } = await makeSession(api, {
      resources: [
        {
          type: 'repository',
          file_id: upload.id,
          branch: 'main',
          head,
          snapshot_ref: 'refs/scriptorium/snapshot',
        },
      ],
    });
    const [created] = await api.store.read(id, 0, 1);
    expect(created?.private).toMatchObject({
      repository: {
        mountPath: '/workspace',
        branch: 'main',
        head,
        sizeBytes: 6,
        blobSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
      uploads: [],
    });
    const session = await api.ask('GET', `/v1/sessions/${id}`);
    expect(session.body.resources).toMatchObject([
      { type: 'repository', mount_path: '/workspace', branch: 'main', head },
    ]);
    expect(JSON.stringify(session.body)).not.toContain('sha256');
  });

  it.each(['../../etc/passwd', 'a/../../b', '/./x', 'a\nb', ''])(
    'refuse to mount at %j',
    async (mount_path) => {
      const reply = await api.ask('POST', '/v1/sessions', {
        ...(await parts()),
        resources: [{ type: 'file', file_id: 'file_x', mount_path }],
      });
      expect(reply.status).toBe(400);
    },
  );

  it.each(['--upload-pack=x', 'a..b', 'refs/heads/x.lock', 'a b', '@{x', 'x/'])(
    'refuse the ref %j',
    async (branch) => {
      const reply = await api.ask('POST', '/v1/sessions', {
        ...(await parts()),
        resources: [{ type: 'repository', file_id: 'file_x', branch, snapshot_ref: 'refs/x' }],
      });
      expect(reply.status).toBe(400);
      expect(messageOf(reply)).toContain('resources.0.branch');
    },
  );
});

describe('updating a session', () => {
  it('emits session.updated with only what changed, and nothing for a no-op', async () => {
    const { id } = await makeSession(api, { metadata: { a: '1' } });
    const reply = await api.ask('POST', `/v1/sessions/${id}`, {
      title: 'New',
      metadata: { a: null, b: '2' },
    });
    expect(reply.body).toMatchObject({ title: 'New', metadata: { b: '2' } });
    await api.ask('POST', `/v1/sessions/${id}`, { title: 'New' });
    await api.ask('POST', `/v1/sessions/${id}`, { title: null });
    const events = dataOf(await api.ask('GET', `/v1/sessions/${id}/events`));
    expect(events.map(({ type, title, metadata }) => ({ type, title, metadata }))).toEqual([
      { type: 'session.updated', title: 'New', metadata: { b: '2' } },
      { type: 'session.updated', title: null, metadata: undefined },
    ]);
  });
});

describe('archiving and deleting', () => {
  it('are refused while the session runs or has something to do', async () => {
    const { id } = await makeSession(api);
    await api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('Go.')] });
    for (const attempt of [
      () => api.ask('POST', `/v1/sessions/${id}/archive`),
      () => api.ask('DELETE', `/v1/sessions/${id}`),
    ]) {
      const reply = await attempt();
      expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining('user.interrupt')]);
    }
  });

  it('archive: terminated, history kept, no more events, out of the list', async () => {
    const { id } = await makeSession(api);
    const archived = await api.ask('POST', `/v1/sessions/${id}/archive`);
    expect(archived.body).toMatchObject({ status: 'terminated', archived_at: expect.any(String) });
    expect((await api.ask('POST', `/v1/sessions/${id}/archive`)).body.archived_at).toBe(
      archived.body.archived_at,
    );
    const events = dataOf(await api.ask('GET', `/v1/sessions/${id}/events`));
    expect(events.map((event) => event.type)).toEqual([
      'session.thread_status_terminated',
      'session.status_terminated',
    ]);
    expect((await api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('Hm?')] })).status).toBe(400);
    expect((await api.ask('POST', `/v1/sessions/${id}`, { title: 'x' })).status).toBe(400);
    const list = (query: string) =>
      api.ask('GET', `/v1/sessions?limit=100${query}`).then((r) => dataOf(r).map((s) => s.id));
    expect(await list('')).not.toContain(id);
    expect(await list('&include_archived=true')).toContain(id);
    expect((await api.ask('DELETE', `/v1/sessions/${id}`)).status).toBe(200);
  });

  it('delete: gone from everywhere, and its payloads are unreadable in the store', async () => {
    const { id } = await makeSession(api, { title: 'Secret plan' });
    const reply = await api.ask('DELETE', `/v1/sessions/${id}`);
    expect(reply.body).toEqual({ id, type: 'session_deleted' });
    for (const path of ['', '/events', '/events/stream', '/threads', '/resources', '/diff']) {
      expect((await api.ask('GET', `/v1/sessions/${id}${path}`)).status).toBe(404);
    }
    expect((await api.ask('DELETE', `/v1/sessions/${id}`)).status).toBe(404);
    const events = await api.store.read(id, 0, 100);
    expect(JSON.stringify(events)).not.toContain('Secret plan');
  });

  it('free the environment they refer to only once they are deleted', async () => {
    const environment = await api.ask('POST', '/v1/environments', { name: newId('event') });
    const agent = await api.ask('POST', '/v1/agents', { name: 'x', model: 'm' });
    const session = await api.ask('POST', '/v1/sessions', {
      agent: agent.body.id,
      environment_id: environment.body.id,
    });
    const path = `/v1/environments/${environment.body.id}`;
    expect((await api.ask('DELETE', path)).status).toBe(400);
    await api.ask('DELETE', `/v1/sessions/${session.body.id}`);
    expect((await api.ask('DELETE', path)).body).toEqual({
      id: environment.body.id,
      type: 'environment_deleted',
    });
  });
});

describe('listing sessions', () => {
  it('goes forward and back over the same rows, in either order', async () => {
    const agent = await api.ask('POST', '/v1/agents', { name: 'lister', model: 'm' });
    const { environment_id } = await parts();
    const made: unknown[] = [];
    for (let i = 0; i < 7; i++) {
      made.push((await api.ask('POST', '/v1/sessions', { agent: agent.body.id, environment_id })).body.id);
    }
    for (const [order, expected] of [
      ['asc', made],
      ['desc', made.toReversed()],
    ] as const) {
      const base = `/v1/sessions?agent_id=${agent.body.id}&order=${order}&limit=3`;
      const first = await api.ask('GET', base);
      const second = await api.ask('GET', `${base}&page=${first.body.next_page}`);
      const third = await api.ask('GET', `${base}&page=${second.body.next_page}`);
      const ids = [first, second, third].map((page) => dataOf(page).map((one) => one.id));
      expect(ids.flat()).toEqual(expected);
      expect([first.body.prev_page, third.body.next_page]).toEqual([null, null]);
      const back = await api.ask('GET', `${base}&page=${third.body.prev_page}`);
      expect(dataOf(back).map((one) => one.id)).toEqual(ids[1]);
      const start = await api.ask('GET', `${base}&page=${back.body.prev_page}`);
      expect(dataOf(start).map((one) => one.id)).toEqual(ids[0]);
      expect(start.body.prev_page).toBeNull();
    }
    const desc = await api.ask('GET', `/v1/sessions?limit=1`);
    expect((await api.ask('GET', `/v1/sessions?order=asc&page=${desc.body.next_page}`)).status).toBe(400);
  });

  it('filters by status, agent version and time', async () => {
    const { id, agent } = await makeSession(api);
    await record(api, id, { type: 'session.status_running' });
    const list = async (query: string) =>
      dataOf(await api.ask('GET', `/v1/sessions?agent_id=${agent}&${query}`)).map((one) => one.id);
    expect(await list('statuses[]=running')).toEqual([id]);
    expect(await list('statuses[]=idle&statuses[]=terminated')).toEqual([]);
    await record(api, id, idle());
    expect(await list('statuses=idle,terminated')).toEqual([id]);
    expect(await list('agent_version=1')).toEqual([id]);
    expect(await list('agent_version=2')).toEqual([]);
    expect(await list('deployment_id=depl_1')).toEqual([]);
    expect(await list(`created_at[gte]=${encodeURIComponent('2020-01-01T00:00:00+02:00')}`)).toEqual([id]);
    expect(await list('created_at%5Blt%5D=2020-01-01T00:00:00Z')).toEqual([]);
    expect((await api.ask('GET', '/v1/sessions?agent_version=1')).status).toBe(400);
    expect((await api.ask('GET', '/v1/sessions?statuses[]=asleep')).status).toBe(400);
  });
});

describe('the hands', () => {
  it('say so when there is nothing to show yet', async () => {
    const { id } = await makeSession(api);
    const reply = await api.ask('GET', `/v1/sessions/${id}/diff`);
    expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining('no workspace')]);
  });

  it('deliver a bundle as a file of the session', async () => {
    const { id } = await makeSession(api);
    api.deps.sandbox.exportBundle = async () => ({
      ok: true,
      bundle: Buffer.from('# v2 git bundle\n'),
      filename: 'work.bundle',
      branch: 'scriptorium/work',
      head: 'b'.repeat(40),
      baseCommit: null,
    });
    const { body } = await api.ask('POST', `/v1/sessions/${id}/delivery`);
    expect(body).toMatchObject({
      type: 'delivery',
      branch: 'scriptorium/work',
      file: { filename: 'work.bundle', scope: { id } },
    });
    const content = await api.fetch(`/v1/files/${(body.file as { id: string }).id}/content`);
    expect(await content.text()).toBe('# v2 git bundle\n');
  });
});

async function parts(): Promise<{ agent: string; environment_id: string }> {
  const agent = await api.ask('POST', '/v1/agents', { name: 'Scribe', model: 'm' });
  const environment = await api.ask('POST', '/v1/environments', { name: newId('event') });
  return { agent: String(agent.body.id), environment_id: String(environment.body.id) };
}
