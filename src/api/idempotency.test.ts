import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Reply, TestApi } from '../../test/sdk/test-api.ts';
import { dataOf, makeSession, openTestApi, record, say } from '../../test/sdk/test-api.ts';
import { createApiKey } from '../guard/identity.ts';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import { defaultTenant } from '../protocol/tenant.ts';

let api: TestApi;
beforeEach(async () => {
  api = await openTestApi();
});
afterEach(() => api.close());

const keyed = (key: string) => ({ 'idempotency-key': key });

/** Every keyed operation, as a request that can be sent again. */
const acts: [string, () => Promise<(key: string) => Promise<Reply>>][] = [
  ['createAgent', async () => (key) => api.ask('POST', '/v1/agents', { name: 'a', model: 'm' }, keyed(key))],
  [
    'updateAgent',
    async () => {
      const { body } = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' });
      return (key) => api.ask('POST', `/v1/agents/${body.id}`, { version: 1, name: 'b' }, keyed(key));
    },
  ],
  [
    'updateAgent to what it is already',
    async () => {
      const { body } = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' });
      return (key) => api.ask('POST', `/v1/agents/${body.id}`, { name: 'a' }, keyed(key));
    },
  ],
  [
    'archiveAgent',
    async () => {
      const { body } = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' });
      return (key) => api.ask('POST', `/v1/agents/${body.id}/archive`, undefined, keyed(key));
    },
  ],
  [
    'createEnvironment',
    async () => (key) => api.ask('POST', '/v1/environments', { name: 'unique' }, keyed(key)),
  ],
  [
    'deleteEnvironment',
    async () => {
      const { body } = await api.ask('POST', '/v1/environments', { name: 'doomed' });
      return (key) => api.ask('DELETE', `/v1/environments/${body.id}`, undefined, keyed(key));
    },
  ],
  [
    'createSession',
    async () => {
      const agent = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' });
      const environment = await api.ask('POST', '/v1/environments', { name: newId('event') });
      const body = {
        agent: agent.body.id,
        environment_id: environment.body.id,
        initial_events: [say('Go.')],
      };
      return (key) => api.ask('POST', '/v1/sessions', body, keyed(key));
    },
  ],
  [
    'updateSession',
    async () => {
      const { id } = await makeSession(api);
      return (key) => api.ask('POST', `/v1/sessions/${id}`, { title: 'New' }, keyed(key));
    },
  ],
  [
    'archiveSession',
    async () => {
      const { id } = await makeSession(api);
      return (key) => api.ask('POST', `/v1/sessions/${id}/archive`, undefined, keyed(key));
    },
  ],
  [
    'deleteSession',
    async () => {
      const { id } = await makeSession(api);
      return (key) => api.ask('DELETE', `/v1/sessions/${id}`, undefined, keyed(key));
    },
  ],
  [
    'sendEvents',
    async () => {
      const { id } = await makeSession(api);
      return (key) =>
        api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('a'), say('b')] }, keyed(key));
    },
  ],
  [
    'uploadFile',
    async () => async (key) => {
      const form = new FormData();
      form.set('file', new File(['same bytes'], 'f.txt', { type: 'text/plain' }));
      const response = await api.fetch('/v1/files', { method: 'POST', body: form, headers: keyed(key) });
      return {
        status: response.status,
        headers: response.headers,
        body: (await response.json()) as JsonObject,
      };
    },
  ],
];

describe.each(acts)('%s with an Idempotency-Key', (_name, prepare) => {
  it('is done once and answers the same: in a row, at the same moment, and after a restart', async () => {
    const act = await prepare();
    const replies = await Promise.all([act('k1'), act('k1'), act('k1')]);
    replies.push(await act('k1'));
    await api.restart();
    replies.push(await act('k1'));
    expect(replies.map((reply) => [reply.status, steady(reply)])).toEqual(
      Array(5).fill([200, steady(replies[0] as Reply)]),
    );
  });
});

/** Seconds that pass are the only part of an answer that may differ. */
function steady({ body }: Reply): unknown {
  return JSON.parse(JSON.stringify(body, (key, value) => (key.endsWith('_seconds') ? 0 : value)));
}

describe('an Idempotency-Key', () => {
  it('answers as the first time even where the world has moved on', async () => {
    const create = () => api.ask('POST', '/v1/environments', { name: 'once' }, keyed('k'));
    const first = await create();
    await api.ask('POST', `/v1/environments/${first.body.id}/archive`);
    expect((await create()).body).toEqual(first.body);
    const { id } = await makeSession(api);
    const send = () => api.ask('POST', `/v1/sessions/${id}/events`, { events: [say('Go.')] }, keyed('k'));
    const sent = await send();
    const input = String(dataOf(sent)[0]?.id);
    await record(api, id, { type: 'input.processed', audience: 'internal', public: { event_ids: [input] } });
    await api.ask('POST', `/v1/sessions/${id}`, { title: 'x' });
    expect((await send()).body).toEqual(sent.body);
    expect(dataOf(await api.ask('GET', `/v1/sessions/${id}/events?types[]=user.message`))).toHaveLength(1);
  });

  it('for another request is a conflict that the SDK does not retry', async () => {
    const { id } = await makeSession(api);
    const attempts = [
      ['/v1/agents', { name: 'a', model: 'm' }, { name: 'b', model: 'm' }],
      [`/v1/sessions/${id}/events`, { events: [say('a')] }, { events: [say('b')] }],
      [`/v1/sessions/${id}`, { title: 'a' }, { title: 'b' }],
    ] as const;
    for (const [path, one, other] of attempts) {
      const key = keyed(path);
      expect((await api.ask('POST', path, one, key)).status).toBe(200);
      const reply = await api.ask('POST', path, other, key);
      expect([reply.status, reply.headers.get('x-should-retry')]).toEqual([409, 'false']);
      expect(reply.body.error).toMatchObject({
        type: 'conflict_error',
        details: { error_code: 'idempotency_key_reused' },
      });
    }
    const upload = async (text: string) => {
      const form = new FormData();
      form.set('file', new File([text], 'f.txt'));
      return (await api.fetch('/v1/files', { method: 'POST', body: form, headers: keyed('f') })).status;
    };
    expect([await upload('a'), await upload('b')]).toEqual([200, 409]);
  });

  it('of a session that was made with it and another body conflicts, and makes no second one', async () => {
    const agent = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' });
    const environment = await api.ask('POST', '/v1/environments', { name: 'e' });
    const body = { agent: agent.body.id, environment_id: environment.body.id };
    await api.ask('POST', '/v1/sessions', body, keyed('k'));
    expect((await api.ask('POST', '/v1/sessions', { ...body, title: 'other' }, keyed('k'))).status).toBe(409);
    expect(dataOf(await api.ask('GET', '/v1/sessions'))).toHaveLength(1);
  });

  it('belongs to the API key that sent it', async () => {
    const other = await createApiKey(api.store, { name: 'other', actor: 'test', nowMs: Date.now() });
    const body = { name: 'a', model: 'm' };
    const mine = await api.ask('POST', '/v1/agents', body, keyed('k'));
    const theirs = await api.ask('POST', '/v1/agents', body, {
      ...keyed('k'),
      authorization: `Bearer ${other.key}`,
    });
    expect(theirs.status).toBe(200);
    expect(theirs.body.id).not.toBe(mine.body.id);
  });

  it('of a refused request may be used again: nothing was done with it', async () => {
    const reply = await api.ask('POST', '/v1/agents', { name: '' }, keyed('k'));
    expect(reply.status).toBe(400);
    expect((await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' }, keyed('k'))).status).toBe(200);
  });

  it.each(['', 'a b', 'ü', 'x'.repeat(256)])('of the form %j is refused', async (key) => {
    const headers = new Headers();
    try {
      headers.set('idempotency-key', key);
    } catch {
      return;
    }
    const reply = await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' }, { 'idempotency-key': key });
    expect(reply.status).toBe(400);
  });

  it('of an act on a session that was deleted since is answered like any other request for it', async () => {
    const { id } = await makeSession(api);
    const idle = { stop_reason: { type: 'end_turn' }, stop_details: null };
    await record(api, id, { type: 'session.status_idle', public: idle });
    const rename = () => api.ask('POST', `/v1/sessions/${id}`, { title: 'New' }, keyed('rename'));
    const send = () =>
      api.ask('POST', `/v1/sessions/${id}/events`, { events: [{ type: 'user.interrupt' }] }, keyed('send'));
    const remove = () => api.ask('DELETE', `/v1/sessions/${id}`, undefined, keyed('remove'));
    expect([(await rename()).status, (await send()).status]).toEqual([200, 200]);
    const log = await api.store.read(id, 0, 100);
    const interrupt = log.find((event) => event.type === 'user.interrupt')?.id ?? '';
    const processed = { event_ids: [interrupt] };
    await record(api, id, { type: 'input.processed', audience: 'internal', public: processed });
    expect((await remove()).status).toBe(200);
    expect([(await rename()).status, (await send()).status, (await remove()).status]).toEqual([
      404, 404, 200,
    ]);
  });

  it('leaves the acts on the organisation in its own log, attributed', async () => {
    await api.ask('POST', '/v1/agents', { name: 'a', model: 'm' }, keyed('k'));
    const events = await api.store.read(defaultTenant.organization, 0, 100);
    expect(events.map((event) => [event.type, event.audience])).toEqual([
      ['api_key.created', 'operator'],
      ['agent.created', 'operator'],
    ]);
    expect(events[1]?.actor).toMatch(/^user:apikey_/);
  });
});
