import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../test/sdk/test-api.ts';
import { makeSession, openTestApi } from '../../test/sdk/test-api.ts';
import type { Json, JsonObject } from '../protocol/json.ts';
import { operations } from './native/operations.ts';

let api: TestApi;
let ids: Record<string, string>;
beforeAll(async () => {
  // A bug answers as in production, so that the test sees the 500.
  api = await openTestApi({ onBug: () => {} });
  const session = await makeSession(api);
  const environment = await api.ask('POST', '/v1/environments', { name: 'fuzz' });
  ids = {
    session_id: session.id,
    thread_id: session.thread,
    agent_id: session.agent,
    environment_id: String(environment.body.id),
    file_id: 'file_none',
    resource_id: 'sesrsc_none',
  };
});
afterAll(() => api.close());

/** Bodies that are nearly right: hostile parts in the places that code behind the schemas reads. */
const seeds: Json[] = [
  {
    name: 'a',
    model: { id: 'm', effort: 'low' },
    tools: [{ type: 'agent_toolset_20260401', configs: [{ name: 'bash' }] }],
  },
  {
    name: 'a',
    model: 'm',
    tools: [
      { type: 'custom', name: 'x', description: 'x', input_schema: { type: 'object', properties: {} } },
    ],
  },
  {
    name: 'e',
    config: { type: 'cloud', networking: { type: 'limited', allowed_hosts: [] }, packages: { pip: [] } },
  },
  {
    agent: { type: 'agent_with_overrides', id: 'agent_x', tools: [] },
    environment_id: 'env_x',
    resources: [{ type: 'file', file_id: 'x' }],
    metadata: {},
  },
  { events: [{ type: 'user.message', content: [{ type: 'text', text: 'x' }] }, { type: 'user.interrupt' }] },
  { title: 'x', metadata: { a: null } },
];

const names = ['__proto__', 'constructor', 'toString', 'type', 'id', 'name', 'hasOwnProperty', 'length', ''];
const hostile = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  fc.constantFrom<Json>(
    null,
    '',
    -1,
    1e308,
    'x'.repeat(5000),
    [],
    {},
    [[[[]]]],
    '\u0000',
    '\uffff',
    '../../x',
  ),
  fc.dictionary(fc.constantFrom(...names), fc.jsonValue({ maxDepth: 2 })),
) as fc.Arbitrary<Json>;

/** Replaces, adds or removes something at a random place. */
function mutated(seed: Json, path: number[], replacement: Json, key: string): Json {
  const copy = structuredClone(seed);
  let place: Json = copy;
  for (const step of path) {
    if (place === null || typeof place !== 'object') break;
    const keys: string[] = Object.keys(place);
    const chosen = keys[step % Math.max(1, keys.length)];
    const child: Json | undefined = chosen === undefined ? undefined : (place as JsonObject)[chosen];
    if (chosen === undefined || child === null || typeof child !== 'object' || step % 3 === 0) {
      Object.defineProperty(place, chosen ?? (Array.isArray(place) ? '0' : key), {
        value: replacement,
        enumerable: true,
        writable: true,
        configurable: true,
      });
      break;
    }
    place = child;
  }
  return copy;
}

const bodies = fc.oneof(
  hostile,
  fc
    .tuple(
      fc.constantFrom(...seeds),
      fc.array(fc.nat(20), { maxLength: 6 }),
      hostile,
      fc.constantFrom(...names),
    )
    .map(([seed, path, replacement, key]) => mutated(seed, path, replacement, key)),
);

const withBody = operations.filter((one) => one.method === 'post' && one.body !== 'multipart');
const reads = operations.filter((one) => one.method === 'get' && one.response.kind === 'json');

describe('no input makes the server fail', () => {
  it.each(withBody.map((one) => [one.id, one.path] as const))(
    '%s refuses what it does not take',
    async (_id, path) => {
      const where = path.replace(/\{(\w+)\}/g, (_match, key: string) => ids[key] ?? 'x');
      await fc.assert(
        fc.asyncProperty(bodies, async (body) => {
          const { status } = await api.ask('POST', where, JSON.stringify(body), {
            'content-type': 'application/json',
          });
          expect(status).toBeLessThan(500);
        }),
        { numRuns: 60 },
      );
    },
  );

  it.each(reads.map((one) => [one.id, one.path, Object.keys(one.query.shape)] as const))(
    '%s refuses queries and ids it does not know',
    async (_id, path, parameters) => {
      const text = fc.oneof(
        fc.string({ maxLength: 40, unit: 'binary' }),
        fc.constantFrom('2020-01-01T00:00:00Z', '1', 'asc'),
      );
      const query = fc.array(fc.tuple(fc.constantFrom(...parameters, 'types[]', 'x'), text), {
        maxLength: 4,
      });
      await fc.assert(
        fc.asyncProperty(query, text, fc.boolean(), async (pairs, id, isKnown) => {
          const where = path.replace(/\{(\w+)\}/g, (_match, key: string) =>
            isKnown ? (ids[key] ?? 'x') : encodeURIComponent(id.toWellFormed()) || 'x',
          );
          const search = new URLSearchParams(
            pairs.map(([key, value]): [string, string] => [key, value.toWellFormed()]),
          );
          const response = await api.fetch(`${where}?${search}`);
          expect(response.status).toBeLessThan(500);
        }),
        { numRuns: 40 },
      );
    },
  );
});
