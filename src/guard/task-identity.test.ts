import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../test/sdk/test-api.ts';
import { makeSession, openTestApi, record } from '../../test/sdk/test-api.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import type { TaskClaims, TaskKeys } from './task-identity.ts';
import { mintTask, reissueTask, revokeTask, verifyTask } from './task-identity.ts';

let api: TestApi;
let session: string;
let clockMs = Date.now();
const minuteMs = 60_000;

beforeAll(async () => {
  api = await openTestApi();
  session = (await makeSession(api)).id;
});
afterAll(() => api.close());

function keysOf(): TaskKeys {
  const { vault } = api.deps;
  if (!vault) throw new Error('no vault');
  return { store: api.store, derive: vault.derive, nowMs: () => clockMs };
}

const claimsOf = (more: Partial<TaskClaims> = {}): TaskClaims => ({
  session,
  agent: { id: 'agent_1', version: 3 },
  repository: 'https://example.com/r.git',
  policyHash: 'ab'.repeat(32),
  idleMs: 10 * minuteMs,
  expiresAtMs: clockMs + 60 * minuteMs,
  ...more,
});
const actor = 'engine:test';
const mint = async (more: Partial<TaskClaims> = {}) =>
  (await mintTask(keysOf(), { tenant: defaultTenant, claims: claimsOf(more), actor })).token;
const verify = (token: string) => verifyTask(keysOf(), token);

describe('a task identity', () => {
  it('is good for what it was minted for, in another process as well, and is stored nowhere', async () => {
    const claims = claimsOf();
    const token = await mint();
    expect(await verify(token)).toEqual({ tenant: defaultTenant, claims });
    await api.restart();
    expect(await verify(token)).toEqual({ tenant: defaultTenant, claims });
    expect(await reissueTask(keysOf(), defaultTenant, session)).toEqual({ token });
    const row = await api.store.resource(defaultTenant, 'task_identity', session);
    const events = await api.store.read(defaultTenant.organization, 0, 1000);
    expect(JSON.stringify([row, events])).not.toContain(token);
  });

  it('is one a session: the next one ends it, also when many are minted at once', async () => {
    const first = await mint();
    const others = await Promise.all(Array.from({ length: 8 }, () => mint()));
    expect(await verify(first)).toMatchObject({ refused: 'unknown' });
    const good = await Promise.all(others.map(verify));
    expect(good.filter((one) => 'claims' in one)).toHaveLength(1);
    expect(new Set([first, ...others]).size).toBe(9);
  });

  it('changed in any character is nobody’s', async () => {
    const token = await mint();
    await fc.assert(
      fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom(...'AZaz09-_ \n'), async (at, character) => {
        fc.pre(token[at] !== character);
        const forged = token.slice(0, at) + character + token.slice(at + 1);
        expect(await verify(forged)).toMatchObject({ refused: 'unknown' });
      }),
      { numRuns: 60 },
    );
    for (const odd of ['', 'sct-', `${token}A`, token.slice(0, -1), token.toUpperCase()])
      expect(await verify(odd)).toMatchObject({ refused: 'unknown' });
  });

  it('lives while it is used and not past its end, whatever the times', async () => {
    const idle = fc.integer({ min: 1, max: 100 });
    const steps = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(idle, fc.integer({ min: 1, max: 200 }), steps, async (idleMinutes, life, waits) => {
        const startMs = clockMs;
        const [idleMs, expiresAtMs] = [idleMinutes * minuteMs, startMs + life * minuteMs];
        const token = await mint({ idleMs, expiresAtMs });
        let usedMs = startMs;
        for (const wait of waits) {
          clockMs += wait * minuteMs;
          const ending = await verify(token);
          const quietMs = clockMs - usedMs;
          if (clockMs >= expiresAtMs) expect(ending).toMatchObject({ refused: 'expired' });
          else if (quietMs >= idleMs) expect(ending).toMatchObject({ refused: 'idle' });
          // An eighth is the grain in which uses are written down.
          else if (quietMs < idleMs * (7 / 8)) expect(ending).toHaveProperty('claims');
          if ('refused' in ending) break;
          usedMs = clockMs;
        }
      }),
      { numRuns: 40 },
    );
  });

  it('revoked is worth nothing in any process, and a use at that moment does not bring it back', async () => {
    for (let round = 0; round < 10; round++) {
      const token = await mint();
      clockMs += 5 * minuteMs;
      await Promise.all([
        verify(token),
        revokeTask(keysOf(), defaultTenant, { session, actor }),
        verify(token),
      ]);
      expect(await verify(token)).toMatchObject({ refused: 'unknown' });
      expect(await reissueTask(keysOf(), defaultTenant, session)).toMatchObject({ refused: 'unknown' });
    }
    await revokeTask(keysOf(), defaultTenant, { session, actor });
  });

  it.each([
    ['archived', 'session.archived'],
    ['terminated', 'session.status_terminated'],
    ['deleted', 'session.deleted'],
  ])('dies with a session that is %s', async (_what, type) => {
    const own = (await makeSession(api)).id;
    const token = await mint({ session: own });
    expect(await verify(token)).toHaveProperty('claims');
    await record(api, own, { type });
    expect(await verify(token)).toMatchObject({ refused: 'session_over' });
    expect(await reissueTask(keysOf(), defaultTenant, own)).toMatchObject({ refused: 'session_over' });
  });
});
