import { expect, it } from 'vitest';
import { failpointNames, parseFailpoints } from '../src/protocol/failpoint.ts';
import { planOf } from './plan.ts';
import { recoveriesOf } from './recovery.ts';

function begin(seed: number) {
  const plan = planOf(seed);
  return {
    faults: Array.from({ length: 200 }, () => plan.next()),
    lives: Array.from({ length: 60 }, () => plan.nextLife()),
    draws: Array.from({ length: 20 }, () => plan.random('client 1').next()),
  };
}

it('is the same for the same seed, and another for another', () => {
  expect(begin(5)).toEqual(begin(5));
  expect(begin(5).faults).not.toEqual(begin(6).faults);
  expect(begin(5).lives).not.toEqual(begin(6).lives);
});

it('visits every place with a kill before it visits one twice as often, and inflicts every kind of fault', () => {
  const { lives, faults } = begin(1);
  const killed = lives.flatMap((life) =>
    parseFailpoints(life).flatMap((arm) => (arm.action.type === 'kill' ? [arm.name] : [])),
  );
  const places = failpointNames.filter((name) => name !== 'clock');
  expect(new Set(killed.slice(0, places.length))).toEqual(new Set(places));
  expect(new Set(faults.map(({ fault }) => fault.kind)).size).toBe(10);
});

it('never takes out a protection by itself', () => {
  expect(begin(2).lives.join()).not.toContain('sabotage');
});

it('measures recovery from each death to the next news', () => {
  const deathsAt = (...times: number[]) =>
    times.map((monotonicMs) => ({ monotonicMs, role: 'server' as const, cause: `kill at ${monotonicMs}` }));
  expect(recoveriesOf(deathsAt(100, 200, 900), [50, 130, 150, 260])).toEqual({
    count: 2,
    p50Ms: 60,
    p99Ms: 60,
    maxMs: 60,
    slowest: 'server kill at 200',
    interrupted: 0,
  });
  expect(recoveriesOf(deathsAt(100, 200), [50, 260])).toMatchObject({ count: 0, interrupted: 2 });
  expect(recoveriesOf([], [])).toMatchObject({ count: 0, maxMs: 0, slowest: null });
});
