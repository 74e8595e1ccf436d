import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, messageOf, openTestApi } from '../../../../test/sdk/test-api.ts';
import type { JsonObject } from '../../../protocol/json.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

let count = 0;
const create = (more: object = {}) =>
  api.ask('POST', '/v1/environments', { name: `room ${count++}`, ...more });

describe('environments', () => {
  it('say what they really are: no network, whatever was left out', async () => {
    for (const config of [
      undefined,
      null,
      { type: 'cloud' },
      { type: 'cloud', networking: { type: 'limited', allowed_hosts: [] }, packages: { pip: [] } },
    ]) {
      const { status, body } = await create(config === undefined ? {} : { config });
      expect([status, body.config]).toEqual([
        200,
        {
          type: 'cloud',
          networking: {
            type: 'limited',
            allowed_hosts: [],
            allow_mcp_servers: false,
            allow_package_managers: false,
            rules: [],
            unknown_hosts: 'deny',
            max_bytes_per_host: null,
          },
          packages: { type: 'packages', apt: [], cargo: [], gem: [], go: [], npm: [], pip: [] },
        },
      ]);
      expect(body).toMatchObject({
        type: 'environment',
        description: null,
        metadata: {},
        scope: 'organization',
        state: 'active',
        archived_at: null,
      });
    }
  });

  it.each([
    [{ config: { type: 'cloud', networking: { type: 'open' } } }, 'config.networking.type'],
    [
      { config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['https://a.b'] } } },
      'scheme',
    ],
    [{ config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['*'] } } }, 'first label'],
    [{ config: { type: 'cloud', networking: { type: 'limited', hosts: ['a.b'] } } }, 'unknown field'],
    [{ config: { type: 'cloud', networking: { type: 'unrestricted', allowed_hosts: [] } } }, 'unknown field'],
    [
      {
        config: {
          type: 'cloud',
          networking: { type: 'limited', rules: [{ effect: 'deny', hosts: ['a.b'], paths: ['/a//b'] }] },
        },
      },
      'config.networking: rules[0].paths[0]',
    ],
    [
      { config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: ['foo.0x1'] } } },
      'config.networking',
    ],
    [
      { config: { type: 'cloud', networking: { type: 'limited', rules: [{ effect: 'allow', hosts: [] }] } } },
      'rules.0.hosts',
    ],
    [{ config: { type: 'cloud', packages: { apt: ['jq'] } } }, 'apt packages are not available'],
    [{ config: { type: 'cloud', packages: { npm: ['--prefix=/'] } } }, 'packages.npm.0'],
    [{ config: { type: 'cloud', packages: { npm: ['a b'] } } }, 'packages.npm.0'],
    [{ config: { type: 'cloud', base: 'windows' } }, 'config.base'],
    [{ config: { type: 'cloud', files: [{ path: '/etc/passwd', content: '' }] } }, 'below /opt/env'],
    [{ config: { type: 'cloud', files: [{ path: '/opt/env/../../etc/x', content: '' }] } }, '..'],
    [{ config: { type: 'cloud', setup: [{ run: 'true', user: 'root' }] } }, 'unknown field'],
    [{ config: { type: 'self_hosted' } }, 'self_hosted environments are not available'],
    [{ config: { type: 'cloud', image: 'x' } }, 'config.image: unknown field'],
    [{ scope: 'account' }, 'organization'],
    [{ name: null }, 'name'],
    [{ metadata: { k: 'v'.repeat(513) } }, 'metadata.k'],
  ])('refuse what is not there instead of pretending: %j', async (change, message) => {
    const reply = await create(change);
    expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining(message)]);
  });

  it('merge what is said about the network: what is omitted stays, another type replaces all', async () => {
    const limited = { type: 'limited', allowed_hosts: ['a.example'], allow_package_managers: true };
    const { body } = await create({ config: { type: 'cloud', networking: limited } });
    const where = `/v1/environments/${body.id}`;
    const rules = [{ effect: 'deny', hosts: ['*.b.example'], methods: ['POST'] }];
    const change = { config: { type: 'cloud', networking: { type: 'limited', rules } } };
    const networking = async () => ((await api.ask('GET', where)).body.config as JsonObject).networking;
    await api.ask('POST', where, change);
    expect(await networking()).toEqual({
      ...{ ...limited, allow_mcp_servers: false, unknown_hosts: 'deny', max_bytes_per_host: null },
      rules: [{ effect: 'deny', hosts: ['*.b.example'], ports: null, methods: ['POST'], paths: null }],
    });
    await api.ask('POST', where, { config: { type: 'cloud', networking: { type: 'unrestricted' } } });
    expect(await networking()).toEqual({ type: 'unrestricted' });
  });

  it('have unique names while they live', async () => {
    const { body } = await create({ name: 'taken' });
    const clash = await create({ name: 'taken' });
    expect([clash.status, clash.headers.get('x-should-retry')]).toEqual([409, 'false']);
    await api.ask('POST', `/v1/environments/${body.id}/archive`);
    expect((await create({ name: 'taken' })).status).toBe(200);
  });

  it('merge updates: omitted stays, null clears, "" deletes a metadata key', async () => {
    const { body } = await create({ description: 'd', metadata: { a: '1', b: '2' } });
    const path = `/v1/environments/${body.id}`;
    const next = await api.ask('POST', path, { metadata: { a: '', c: '3' }, config: { type: 'cloud' } });
    expect(next.body).toMatchObject({ name: body.name, description: 'd', metadata: { b: '2', c: '3' } });
    expect((await api.ask('POST', path, { description: null })).body.description).toBeNull();
    expect((await api.ask('POST', path, { description: '' })).body.description).toBe('');
    expect((await api.ask('POST', path, { config: { type: 'self_hosted' } })).status).toBe(400);
    expect((await api.ask('GET', path)).body.metadata).toEqual({ b: '2', c: '3' });
  });

  it('are read-only once archived, and hidden from lists', async () => {
    const { body } = await create();
    const path = `/v1/environments/${body.id}`;
    const archived = await api.ask('POST', `${path}/archive`);
    expect(archived.body).toMatchObject({ state: 'archived', archived_at: expect.any(String) });
    expect((await api.ask('POST', `${path}/archive`)).body).toEqual(archived.body);
    const update = await api.ask('POST', path, { name: 'x' });
    expect(update.body.error).toMatchObject({ details: { error_code: 'environment_archived' } });
    const ids = async (query: string) =>
      dataOf(await api.ask('GET', `/v1/environments?limit=100${query}`)).map((one) => one.id);
    expect(await ids('')).not.toContain(body.id);
    expect(await ids('&include_archived=true')).toContain(body.id);
  });

  it('are deleted for good', async () => {
    const { body } = await create();
    const path = `/v1/environments/${body.id}`;
    expect((await api.ask('DELETE', path)).body).toEqual({ id: body.id, type: 'environment_deleted' });
    for (const method of ['GET', 'DELETE']) {
      const reply = await api.ask(method, path);
      expect(reply.body.error).toMatchObject({
        type: 'not_found_error',
        details: { error_code: 'environment_not_found' },
      });
    }
  });
});
