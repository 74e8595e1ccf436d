import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../test/sdk/test-api.ts';
import { makeSession, messageOf, openTestApi } from '../../test/sdk/test-api.ts';
import { createApiKey, revocation } from '../guard/identity.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import { StoreUnavailable } from '../store/store.ts';
import { operations } from './native/operations.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi({ limits: { jsonBytes: 100_000 } });
});
afterAll(() => api.close());

const agent = { name: 'a', model: 'm' };
const bare = (path: string, init: RequestInit = {}) => api.app.request(path, init);

describe('authentication', () => {
  it.each(operations.map((one) => [one.id, one] as const))('is needed for %s', async (_id, one) => {
    const path = one.path.replace(/\{\w+\}/g, 'x');
    const response = await bare(path, { method: one.method.toUpperCase() });
    expect(response.status).toBe(401);
    expect(response.headers.get('request-id')).toMatch(/^req_/);
    expect(await response.json()).toMatchObject({ type: 'error', error: { type: 'authentication_error' } });
  });

  it.each([
    { authorization: 'Bearer' },
    { authorization: 'Bearer sk-scr-wrong' },
    { authorization: `Bearer sk-scr-${'A'.repeat(43)}` },
    { authorization: 'Basic YTpi' },
    { 'x-api-key': '' },
    { 'x-api-key': 'x'.repeat(100_000) },
  ])('refuses %j', async (headers) => {
    expect((await bare('/v1/agents', { headers: headers as Record<string, string> })).status).toBe(401);
  });

  it('takes the key as Bearer and as x-api-key, with any version and beta headers', async () => {
    const headers = { 'x-api-key': api.key, 'anthropic-version': '2023-06-01', 'anthropic-beta': 'anything' };
    expect((await bare('/v1/agents?beta=true', { headers })).status).toBe(200);
    expect((await bare('/v1/agents', { headers: { authorization: `bearer ${api.key}` } })).status).toBe(200);
  });

  it('ends with the revocation of the key', async () => {
    const { id, key } = await createApiKey(api.store, { name: 'brief', actor: 'test', nowMs: Date.now() });
    const ask = () => bare('/v1/agents', { headers: { authorization: `Bearer ${key}` } });
    expect((await ask()).status).toBe(200);
    const end = await revocation(api.store, defaultTenant, id, 'test', Date.now());
    await api.store.append({
      ...defaultTenant,
      stream: defaultTenant.organization,
      events: end ? [end.event] : [],
      resources: end ? [end.resource] : [],
    });
    expect((await ask()).status).toBe(401);
  });

  it('stores no key: what is in the store opens nothing', async () => {
    const rows = await api.store.listResources({ ...defaultTenant, kind: 'api_key', limit: 100 });
    expect(JSON.stringify(rows)).not.toContain(api.key);
  });

  it('shows one tenant nothing of another, by id or in lists', async () => {
    const { id, agent: agentId } = await makeSession(api);
    const form = new FormData();
    form.set('file', new File(['mine'], 'mine.txt'));
    const file = (await (await api.fetch('/v1/files', { method: 'POST', body: form })).json()) as {
      id: string;
    };
    const tenant = { organization: 'org_other', project: 'proj_default' };
    const stranger = await createApiKey(api.store, { name: 'x', actor: 't', nowMs: Date.now(), tenant });
    const ask = (path: string, method = 'GET') =>
      bare(path, { method, headers: { 'x-api-key': stranger.key } });
    const paths = [
      `/v1/sessions/${id}`,
      `/v1/agents/${agentId}`,
      `/v1/files/${file.id}`,
      `/v1/files/${file.id}/content`,
    ];
    for (const path of [...paths, `/v1/sessions/${id}/events`, `/v1/sessions/${id}/events/stream`]) {
      expect((await ask(path)).status).toBe(404);
    }
    expect((await ask(`/v1/sessions/${id}`, 'DELETE')).status).toBe(404);
    expect((await ask(`/v1/files/${file.id}`, 'DELETE')).status).toBe(404);
    for (const path of ['/v1/sessions', '/v1/agents', '/v1/environments', '/v1/files']) {
      expect(((await (await ask(path)).json()) as { data: unknown[] }).data).toEqual([]);
    }
  });

  it('lets nobody read the organisation’s own log as a session', async () => {
    expect((await api.ask('GET', '/v1/sessions/org_default')).status).toBe(404);
    expect((await api.ask('GET', '/v1/sessions/org_default/events?audience=operator')).status).toBe(404);
  });
});

describe('routes', () => {
  it('answers health without a key', async () => {
    expect(await (await bare('/healthz')).json()).toMatchObject({ ok: true });
    expect((await bare('/readyz')).status).toBe(200);
  });

  it('reports a server that is not ready as 503', async () => {
    api.deps.ready = async () => ({ ok: false, checks: { host: { ok: false, message: 'gone' } } });
    expect((await bare('/readyz')).status).toBe(503);
  });

  it('answers unknown paths and methods in the envelope', async () => {
    const missing = await api.ask('GET', '/v1/nothing');
    expect([missing.status, missing.body.type]).toEqual([404, 'error']);
    const wrong = await api.ask('DELETE', '/v1/agents');
    expect([wrong.status, messageOf(wrong)]).toEqual([405, expect.stringContaining('POST, GET')]);
    for (const path of ['/v1/skills', '/v1/environments/env_1/work/poll']) {
      const reply = await api.ask('GET', path);
      expect([reply.status, messageOf(reply)]).toEqual([404, expect.stringContaining('this version')]);
    }
  });

  it('shows the doctor report', async () => {
    expect((await api.ask('GET', '/v1/doctor')).body).toMatchObject({
      type: 'doctor_report',
      isolation: 'none',
    });
  });
});

describe('failures inside', () => {
  it('reach the client as 503 with a retry where the store is away, and never with their message', async () => {
    const { store } = api.deps;
    const failing = await openTestApi();
    failing.deps.store.listResources = async () => {
      throw new StoreUnavailable('disk full at /secret/path');
    };
    const reply = await failing.ask('GET', '/v1/agents');
    expect([reply.status, reply.headers.get('x-should-retry')]).toEqual([503, 'true']);
    expect(JSON.stringify(reply.body)).not.toContain('secret');
    failing.deps.onBug = () => {};
    failing.deps.store.listResources = async () => {
      throw new TypeError('cannot read /secret/path');
    };
    const bug = await failing.ask('GET', '/v1/agents');
    expect([bug.status, bug.body.error]).toEqual([
      500,
      { type: 'api_error', message: 'Something went wrong on our side.' },
    ]);
    expect(bug.body.request_id).toBe(bug.headers.get('request-id'));
    await failing.close();
    expect(store).toBeDefined();
  });
});

describe('hostile bodies', () => {
  const post = (
    body: string | Uint8Array<ArrayBuffer>,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ) => api.fetch('/v1/agents', { method: 'POST', body, headers });
  const refusal = async (response: Response) => [
    response.status,
    ((await response.json()) as { error: { message: string; details?: { error_code: string } } }).error,
  ];

  it('nested beyond any stack are refused, not crashed on', async () => {
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const deep = `{"name":"a","model":"m","metadata":${open.repeat(15_000)}1${close.repeat(15_000)}}`;
      expect(await refusal(await post(deep))).toEqual([
        400,
        expect.objectContaining({ message: expect.stringContaining('nested deeper') }),
      ]);
    }
  });

  it('larger than the limit are 413, whatever content-length says', async () => {
    const huge = JSON.stringify({ ...agent, system: 'x'.repeat(120_000) });
    expect((await post(huge)).status).toBe(413);
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(10_000).fill(32)),
    });
    const endless = await api.fetch('/v1/agents', {
      method: 'POST',
      body: stream,
      duplex: 'half',
      headers: { 'content-type': 'application/json' },
    } as RequestInit);
    expect(await refusal(endless)).toEqual([413, expect.objectContaining({ type: 'request_too_large' })]);
    expect(endless.headers.get('x-should-retry')).toBe('false');
  });

  it('with a key to the prototype are refused and change nothing', async () => {
    const response = await post('{"name":"a","model":"m","metadata":{"__proto__":"x"}}');
    expect(await refusal(response)).toEqual([
      400,
      expect.objectContaining({ message: '__proto__: unknown field' }),
    ]);
    const inherited = await post('{"name":"a","model":"m","constructor":{"prototype":{"x":1}}}');
    expect(inherited.status).toBe(400);
    expect(({} as { x?: number }).x).toBeUndefined();
    const metadata = await post('{"name":"a","model":"m","metadata":{"constructor":"c","toString":"t"}}');
    expect(metadata.status).toBe(200);
    expect(((await metadata.json()) as { metadata: object }).metadata).toEqual({
      constructor: 'c',
      toString: 't',
    });
  });

  it('that are no text at all are refused', async () => {
    const invalid = await post(new Uint8Array([123, 34, 110, 0xff, 0xfe, 34, 125]));
    expect(await refusal(invalid)).toEqual([
      400,
      expect.objectContaining({ details: { error_code: 'request_body_encoding_invalid' } }),
    ]);
    const lone = await post('{"name":"\\ud800","model":"m"}');
    expect(lone.status).toBe(400);
    expect((await post('{"name":')).status).toBe(400);
    expect((await post('')).status).toBe(400);
    for (const text of ['null', '[]', '"x"', '7', 'true']) expect((await post(text)).status).toBe(400);
  });

  it('in another encoding, charset or form are refused with their code', async () => {
    const type = 'application/json';
    const gzip = await post('x', { 'content-type': type, 'content-encoding': 'gzip' });
    expect(await refusal(gzip)).toEqual([
      400,
      expect.objectContaining({ details: { error_code: 'request_body_encoding_unsupported' } }),
    ]);
    const latin = await post(JSON.stringify(agent), { 'content-type': `${type}; charset=latin1` });
    expect(await refusal(latin)).toEqual([
      400,
      expect.objectContaining({ details: { error_code: 'unsupported_charset' } }),
    ]);
    expect((await post('name=a', { 'content-type': 'application/x-www-form-urlencoded' })).status).toBe(400);
    expect((await post(JSON.stringify(agent), { 'content-type': `${type}; charset=UTF-8` })).status).toBe(
      200,
    );
  });

  it('with very many wrong members are answered shortly', async () => {
    const many = Object.fromEntries(Array.from({ length: 4000 }, (_, i) => [`field${i}`, 1]));
    const reply = await api.ask('POST', '/v1/agents', { ...agent, ...many });
    expect(reply.status).toBe(400);
    expect(messageOf(reply).length).toBeLessThan(1000);
    const array = await api.ask('POST', '/v1/agents', { ...agent, tools: Array(20_000).fill(1) });
    expect(array.status).toBe(400);
    expect(messageOf(array).length).toBeLessThan(1000);
  });

  it('to operations without a body may be empty or {}, and nothing else', async () => {
    const { body } = await api.ask('POST', '/v1/agents', agent);
    const path = `/v1/agents/${body.id}/archive`;
    expect(messageOf(await api.ask('POST', path, { force: true }))).toContain('force: unknown field');
    expect((await api.ask('POST', path, {})).status).toBe(200);
    expect((await api.ask('POST', path)).status).toBe(200);
  });
});
