import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { messageOf, openTestApi } from '../../../../test/sdk/test-api.ts';
import type { JsonObject } from '../../../protocol/json.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi({ limitMaxima: { memory_bytes: 2 ** 30, cpu_cores: 2 } });
});
afterAll(() => api.close());

let count = 0;
const create = (limits: object | null) =>
  api.ask('POST', '/v1/environments', { name: `limited ${count++}`, config: { type: 'cloud', limits } });

it.each([
  [
    { memory_bytes: 2 ** 31 },
    'config.limits.memory_bytes: 2147483648 is above the maximum of this server, 1073741824',
  ],
  [{ cpu_cores: 2.5 }, 'config.limits.cpu_cores: 2.5 is above the maximum of this server, 2'],
  [{ processes: 1 }, 'config.limits.processes: 1 is too little; the least is 8'],
  [
    { wall_time_ms: 5_000, lifetime_ms: 4_000 },
    'config.limits.wall_time_ms: 5000 is longer than lifetime_ms',
  ],
])('%j cannot be had: a 400 that names the field and what can be', async (limits, words) => {
  const reply = await create(limits);
  expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining(words)]);
  expect(reply.body.error).toMatchObject({ details: { error_code: 'limit_out_of_range' } });
});

it.each([
  [{ memory: 5 }, 'config.limits.memory: unknown field'],
  [{ memory_bytes: '1g' }, 'config.limits.memory_bytes'],
  [{ processes: 10.5 }, 'config.limits.processes'],
  [{ cpu_cores: -1 }, 'config.limits.cpu_cores'],
])('%j is no limit: a 400 that names the field', async (limits, words) => {
  const reply = await create(limits);
  expect([reply.status, messageOf(reply)]).toEqual([400, expect.stringContaining(words)]);
});

it('are merged by an update: what is omitted stays, null takes away; without any there is no member', async () => {
  const { body } = await create({ memory_bytes: 2 ** 29, processes: 64 });
  const where = `/v1/environments/${body.id}`;
  const limits = async () => ((await api.ask('GET', where)).body.config as JsonObject).limits;
  const update = (said: object | null) => api.ask('POST', where, { config: { type: 'cloud', limits: said } });
  expect(await limits()).toEqual({ memory_bytes: 2 ** 29, processes: 64 });
  await update({ cpu_cores: 1.5, processes: null });
  expect(await limits()).toEqual({ memory_bytes: 2 ** 29, cpu_cores: 1.5 });
  await api.ask('POST', where, { name: 'renamed limited' });
  expect(await limits()).toEqual({ memory_bytes: 2 ** 29, cpu_cores: 1.5 });
  const refused = await update({ memory_bytes: 2 ** 31 });
  expect([refused.status, await limits()]).toEqual([400, { memory_bytes: 2 ** 29, cpu_cores: 1.5 }]);
  await update({ cpu_cores: null, memory_bytes: null });
  expect(await limits()).toBeUndefined();
});
