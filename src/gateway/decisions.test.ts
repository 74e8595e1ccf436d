import { expect, it } from 'vitest';
import { DecisionLog } from './decisions.ts';

it('a flood of refused names is summed, its count kept, and what is allowed meanwhile is still told', async () => {
  const log = new DecisionLog({ windowMs: 60_000 });
  const place = { protocol: 'dns' as const, port: null, rule: null };
  for (let at = 0; at < 5_000; at += 1)
    log.record({ ...place, host: `n${at}.evil.example`, decision: 'denied', reason: 'no rule' });
  const allowed = { protocol: 'https' as const, host: 'good.example', port: 443, rule: 'r', reason: null };
  log.record({ ...allowed, decision: 'allowed' });
  log.flush();
  const told = [];
  for (let acknowledge = 0; ; acknowledge = told.at(-1)?.seq ?? 0) {
    const more = await log.observe(acknowledge, 0);
    if (more.length === 0) break;
    told.push(...more);
  }
  expect(told.length).toBeLessThan(600);
  expect(told.reduce((sum, { decision }) => sum + decision.count, 0)).toBe(5_001);
  const all = told.map(({ decision }) => decision);
  expect(all).toContainEqual(expect.objectContaining({ host: '*', decision: 'denied' }));
  expect(all).toContainEqual(expect.objectContaining({ host: 'good.example', decision: 'allowed' }));
});
