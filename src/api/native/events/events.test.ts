import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, makeSession, messageOf, openTestApi, record, say } from '../../../../test/sdk/test-api.ts';
import { newId } from '../../../protocol/ids.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { defaultTenant } from '../../../protocol/tenant.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const send = (id: string, ...events: JsonObject[]) =>
  api.ask('POST', `/v1/sessions/${id}/events`, { events });
const list = async (id: string, query = '') =>
  dataOf(await api.ask('GET', `/v1/sessions/${id}/events?${query}`));

/** A session that waits: one call for a person, one for a client. */
async function blocked(): Promise<{ id: string; asks: string; custom: string }> {
  const { id, thread } = await makeSession(api);
  const [asks, custom, start] = [newId('event'), newId('event'), newId('event')];
  const sent = await send(id, say('Do it.'));
  const message = String(dataOf(sent)[0]?.id);
  const usage = { inputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, outputTokens: 0 };
  await record(
    api,
    id,
    { type: 'input.processed', audience: 'internal', public: { event_ids: [message] } },
    { type: 'turn.started', audience: 'operator', public: { turn_id: 'turn_1', event_ids: [message] } },
    {
      type: 'model.intent',
      audience: 'internal',
      public: { model_request_start_id: start, round: 1, attempt: 1 },
      private: {},
    },
    {
      type: 'model.response',
      audience: 'internal',
      public: { model_request_start_id: start },
      private: {
        provider: 'p',
        wire: 'w',
        model: 'm',
        items: ['verbatim'],
        output: [],
        stop: 'end',
        usage: { ...usage },
        costMicros: 0,
      },
    },
    {
      type: 'agent.tool_use',
      id: asks,
      thread,
      public: { name: 'bash', input: { command: 'ls' }, evaluated_permission: 'ask' },
      private: { providerCallId: 'call_1' },
    },
    {
      type: 'agent.custom_tool_use',
      id: custom,
      thread,
      public: { name: 'legal', input: {} },
      private: { providerCallId: 'call_2' },
    },
    {
      type: 'session.status_idle',
      public: { stop_reason: { type: 'requires_action', event_ids: [asks, custom] }, stop_details: null },
    },
  );
  return { id, asks, custom };
}

describe('sending events', () => {
  it('echoes them with ids, queued ones unprocessed', async () => {
    const { id } = await makeSession(api);
    const reply = await send(id, say('One.'), say('Two.'));
    expect(dataOf(reply)).toEqual([
      { id: expect.stringMatching(/^sevt_/), processed_at: null, ...say('One.') },
      { id: expect.stringMatching(/^sevt_/), processed_at: null, ...say('Two.') },
    ]);
    const messages = await list(id, 'types[]=user.message');
    expect(messages.map((event) => event.id)).toEqual(dataOf(reply).map((event) => event.id));
  });

  it('is all or nothing', async () => {
    const { id } = await makeSession(api);
    const reply = await send(id, say('One.'), {
      type: 'user.tool_confirmation',
      tool_use_id: 'sevt_x',
      result: 'allow',
    });
    expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining('events.1: tool_use_id')]);
    expect(await list(id)).toEqual([]);
  });

  it('loses none and repeats none when many clients send at once', async () => {
    const { id } = await makeSession(api);
    const replies = await Promise.all(Array.from({ length: 30 }, (_, i) => send(id, say(`Message ${i}.`))));
    expect(replies.every((reply) => reply.status === 200)).toBe(true);
    const messages = await list(id, 'types[]=user.message');
    const texts = messages.map((event) => (event.content as { text: string }[])[0]?.text);
    expect(new Set(texts).size).toBe(30);
    expect(texts).toHaveLength(30);
    expect(await list(id, 'types[]=session.status_running')).toHaveLength(1);
  });

  it('refuses a message while answers are missing, and takes each answer once', async () => {
    const { id, asks, custom } = await blocked();
    expect(messageOf(await send(id, say('Hello?')))).toContain('requires_action');
    const allow = { type: 'user.tool_confirmation', tool_use_id: asks, result: 'allow' };
    const answer = {
      type: 'user.custom_tool_result',
      custom_tool_use_id: custom,
      content: [{ type: 'text', text: 'ok' }],
    };
    expect(messageOf(await send(id, allow, allow))).toContain('answered already');
    const sent = await send(id, allow);
    expect(dataOf(sent)[0]?.processed_at).toEqual(expect.any(String));
    expect((await send(id, allow)).status).toBe(400);
    expect((await send(id, { ...allow, tool_use_id: custom })).status).toBe(400);
    expect((await send(id, answer)).status).toBe(200);
    expect((await send(id, answer)).status).toBe(400);
  });

  it('says in the same append that an idle session runs: no poll in between sees the old idle', async () => {
    const { id, thread } = await makeSession(api);
    const head = (await api.store.stream(defaultTenant, id))?.head ?? 0;
    await send(id, say('Go.'));
    expect((await api.ask('GET', `/v1/sessions/${id}`)).body).toMatchObject({ status: 'running' });
    const events = await api.store.read(id, head, 10);
    expect(events.map((event) => event.type)).toEqual([
      'user.message',
      'session.status_running',
      'session.thread_status_running',
    ]);
    expect(events[2]?.public).toEqual({ session_thread_id: thread, agent_name: 'Scribe' });
    expect(new Set(events.map((event) => event.actor)).size).toBe(1);
  });

  it('says so once: what comes while it runs says nothing of it', async () => {
    const { id } = await makeSession(api);
    await send(id, say('Go.'));
    await send(id, say('And then.'));
    await send(id, { type: 'user.interrupt' });
    expect(await list(id, 'types[]=session.status_running')).toHaveLength(1);
  });

  it.each(['allow', 'deny'])(
    'says running with the last answer, and not with part of them (%s)',
    async (result) => {
      const { id, asks, custom } = await blocked();
      const running = () => list(id, 'types[]=session.status_running');
      const status = async () => (await api.ask('GET', `/v1/sessions/${id}`)).body.status;
      await send(id, { type: 'user.tool_confirmation', tool_use_id: asks, result });
      expect([await status(), (await running()).length]).toEqual(['idle', 1]);
      await send(id, { type: 'user.custom_tool_result', custom_tool_use_id: custom });
      expect([await status(), (await running()).length]).toEqual(['running', 2]);
    },
  );

  it('takes [user.interrupt, user.message] where answers are missing, and not the other way round', async () => {
    const { id } = await blocked();
    expect((await send(id, say('Hello?'), { type: 'user.interrupt' })).status).toBe(400);
    const reply = await send(id, { type: 'user.interrupt' }, say('Something else.'));
    expect(dataOf(reply).map((event) => event.type)).toEqual(['user.interrupt', 'user.message']);
    expect((await list(id)).slice(-2).map((event) => event.type)).toEqual(['user.interrupt', 'user.message']);
  });

  it.each([
    [[], 'events'],
    [[{ type: 'user.message' }], 'events.0.content: is required'],
    [[{ type: 'user.message', content: [] }], 'events.0.content'],
    [[{ type: 'user.message', content: [{ type: 'redacted' }] }], 'only ever sent by the server'],
    [
      [{ type: 'user.message', content: [{ type: 'image', source: { type: 'file', file_id: 'x' } }] }],
      'images by file_id are not',
    ],
    [
      [{ type: 'user.message', content: [{ type: 'document', source: { type: 'url', url: 'https://x' } }] }],
      'documents by url are not',
    ],
    [
      [
        {
          type: 'user.message',
          content: [{ type: 'image', source: { type: 'url', url: 'file:///etc/passwd' } }],
        },
      ],
      'url',
    ],
    [
      [{ type: 'user.message', content: [{ type: 'text', text: 'x', cache: 1 }] }],
      'events.0.content.0.cache: unknown field',
    ],
    [[{ type: 'user.define_outcome', description: 'x', rubric: {} }], 'outcomes are not available'],
    [[{ type: 'user.tool_result', tool_use_id: 'x' }], 'self_hosted'],
    [[{ type: 'system.message', content: [] }], 'system messages are not available'],
    [[{ type: 'agent.message', content: [] }], 'events.0'],
    [
      [{ type: 'user.tool_confirmation', tool_use_id: 'x', result: 'allow', deny_message: 'no' }],
      'only together with result "deny"',
    ],
    [[null], 'events.0'],
    ['all', 'events'],
  ])('names what is wrong in %j', async (events, message) => {
    const { id } = await makeSession(api);
    const reply = await api.ask('POST', `/v1/sessions/${id}/events`, { events });
    expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining(message)]);
  });
});

describe('listing events', () => {
  it('shows nothing internal: no driver records, no private payloads', async () => {
    const { id } = await blocked();
    const reply = await api.ask('GET', `/v1/sessions/${id}/events`);
    expect(dataOf(reply).map((event) => event.type)).toEqual([
      'user.message',
      'session.status_running',
      'session.thread_status_running',
      'agent.tool_use',
      'agent.custom_tool_use',
      'session.status_idle',
    ]);
    expect(JSON.stringify(reply.body)).not.toMatch(/verbatim|providerCallId|call_1/);
    const operator = await api.ask('GET', `/v1/sessions/${id}/events?audience=operator`);
    expect(dataOf(operator).map((event) => event.type)).toContain('turn.started');
    expect(JSON.stringify(operator.body)).not.toMatch(/verbatim|providerCallId|model\.response/);
  });

  it('joins processed_at from wherever the input was taken up, in both orders', async () => {
    const { id } = await makeSession(api);
    const sent = dataOf(await send(id, say('One.'), say('Two.')));
    await record(api, id, {
      type: 'input.processed',
      audience: 'internal',
      public: { event_ids: [sent[0]?.id ?? ''] },
    });
    for (const query of ['order=asc', 'order=desc']) {
      const events = await list(id, query);
      const byId = new Map(events.map((event) => [event.id, event.processed_at]));
      expect(byId.get(sent[0]?.id ?? '')).toEqual(expect.any(String));
      expect(byId.get(sent[1]?.id ?? '')).toBeNull();
    }
  });

  it('pages in either order over a long log without losing or repeating one', async () => {
    const { id } = await makeSession(api);
    const noise = Array.from({ length: 700 }, (_, i) => ({
      type: i % 3 === 0 ? 'agent.message' : 'model.intent',
      audience: i % 3 === 0 ? ('public' as const) : ('internal' as const),
      public: { content: [] },
    }));
    await record(api, id, ...noise);
    const expected = (await list(id, 'limit=1000')).map((event) => event.id);
    expect(expected).toHaveLength(234);
    for (const order of ['asc', 'desc']) {
      const seen: unknown[] = [];
      let page: unknown;
      do {
        const query = `order=${order}&limit=17${page ? `&page=${page}` : ''}`;
        const reply = await api.ask('GET', `/v1/sessions/${id}/events?${query}`);
        seen.push(...dataOf(reply).map((event) => event.id));
        page = reply.body.next_page;
      } while (page);
      expect(seen).toEqual(order === 'asc' ? expected : expected.toReversed());
    }
  });

  it('filters by types and by time', async () => {
    const { id } = await blocked();
    expect((await list(id, 'types[]=agent.tool_use&types[]=user.message')).map((one) => one.type)).toEqual([
      'user.message',
      'agent.tool_use',
    ]);
    expect(await list(id, 'types=agent.tool_use,session.status_idle')).toHaveLength(2);
    expect(await list(id, 'created_at[gt]=2999-01-01T00:00:00Z')).toEqual([]);
    expect(await list(id, 'created_at[lte]=2999-01-01T00:00:00Z')).toHaveLength(6);
  });

  it('refuses cursors of another list, another order or no list at all', async () => {
    const [a, b] = [await blocked(), await blocked()];
    const { next_page } = (await api.ask('GET', `/v1/sessions/${a.id}/events?limit=2`)).body;
    const get = async (id: string, query: string) =>
      (await api.ask('GET', `/v1/sessions/${id}/events?${query}`)).status;
    expect(await get(a.id, `page=${next_page}`)).toBe(200);
    expect(await get(b.id, `page=${next_page}`)).toBe(400);
    expect(await get(a.id, `order=desc&page=${next_page}`)).toBe(400);
    expect(await get(a.id, 'page=garbage')).toBe(400);
    expect(await get(a.id, `page=${Buffer.from('{"seq":-1}').toString('base64url')}`)).toBe(400);
    expect(await get(a.id, 'limit=0')).toBe(400);
    expect(await get(a.id, 'limit=1e3')).toBe(400);
    expect(await get(a.id, 'tpyes[]=x')).toBe(400);
    expect(await get(a.id, 'beta=true')).toBe(200);
  });
});

describe('threads', () => {
  it('are the primary one, with its events', async () => {
    const { id, thread } = await makeSession(api);
    const path = `/v1/sessions/${id}/threads`;
    const [listed] = dataOf(await api.ask('GET', path));
    expect(listed).toMatchObject({
      type: 'session_thread',
      id: thread,
      session_id: id,
      parent_thread_id: null,
      workflow_run_id: null,
      status: 'idle',
    });
    expect(listed?.agent).not.toHaveProperty('multiagent');
    expect((await api.ask('GET', `${path}/${thread}`)).body).toMatchObject({ id: thread });
    await send(id, say('Hi.'));
    expect((await api.ask('GET', `${path}/${thread}`)).body).toMatchObject({ status: 'running' });
    const events = dataOf(await api.ask('GET', `${path}/${thread}/events`));
    expect(events.map((event) => event.type)).toEqual([
      'user.message',
      'session.status_running',
      'session.thread_status_running',
    ]);
    expect((await api.ask('GET', `${path}/sthr_other`)).status).toBe(404);
    expect((await api.ask('GET', `${path}/sthr_other/events`)).status).toBe(404);
    expect((await api.ask('GET', `${path}/sthr_other/stream`)).status).toBe(404);
    expect(messageOf(await api.ask('POST', `${path}/${thread}/archive`))).toContain('archive the session');
  });
});
