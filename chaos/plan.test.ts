import { expect, it } from 'vitest';
import { failpointNames, parseFailpoints } from '../src/protocol/failpoint.ts';
import type { LogEvent } from './evidence.ts';
import { planOf } from './plan.ts';
import { recoveriesOf } from './recovery.ts';

function begin(seed: number) {
  const plan = planOf(seed);
  return {
    faults: Array.from({ length: 200 }, () => plan.next()),
    lives: Array.from({ length: 60 }, () => plan.nextLife('all')),
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
  const ofFleet = planOf(1, { isFleet: true });
  const kinds = Array.from({ length: 300 }, () => ofFleet.next().fault.kind);
  expect(new Set(kinds).size).toBe(20);
});

it('never takes out a protection by itself', () => {
  expect(begin(2).lives.join()).not.toContain('sabotage');
});

it('measures recovery from the death of a server to the first event of the next owner that anybody sees', () => {
  const owned = (...fences: [number, string?][]) =>
    fences.map(([fence, type = 'agent.message'], index) => ({ seq: index + 1, fence, type }) as LogEvent);
  const seen = (...times: number[]) => times.map((monotonicMs, index) => ({ seq: index + 1, monotonicMs }));
  const deathsAt = (...times: number[]) =>
    times.map((monotonicMs) => ({ monotonicMs, role: 'server' as const, cause: `kill at ${monotonicMs}` }));
  const session = { log: owned([1], [1], [2]), news: seen(90, 95, 160) };
  expect(recoveriesOf(deathsAt(100), [session])).toEqual({
    count: 1,
    p50Ms: 60,
    p99Ms: 60,
    maxMs: 60,
    slowest: 'kill at 100',
    interrupted: 0,
  });
  expect(recoveriesOf(deathsAt(100, 120), [session])).toMatchObject({ count: 0, interrupted: 1 });
  expect(recoveriesOf(deathsAt(50), [session])).toMatchObject({ count: 0, interrupted: 0 });
  const resting = { ...session, log: owned([1], [1, 'session.status_idle'], [2]) };
  expect(recoveriesOf(deathsAt(100), [resting])).toMatchObject({ count: 0 });
});
