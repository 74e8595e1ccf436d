import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ModelError } from './model.ts';
import { maxAttempts, retryDelayMs } from './retry.ts';

function failure(change: Partial<ModelError> = {}): ModelError {
  return { kind: 'server', message: '', httpStatus: 500, retryAfterMs: null, isRetryable: true, ...change };
}

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('the retry policy', () => {
  it('never retries what cannot get better', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), random, (attempt, chance) => {
        const error = failure({ kind: 'auth', isRetryable: false, retryAfterMs: 10 });
        expect(retryDelayMs({ error, attempt, random: chance })).toBeNull();
      }),
    );
  });

  it('gives up at the last attempt and not before', () => {
    expect(retryDelayMs({ error: failure(), attempt: maxAttempts - 1, random: 0.5 })).not.toBeNull();
    expect(retryDelayMs({ error: failure(), attempt: maxAttempts, random: 0.5 })).toBeNull();
  });

  it('never waits less than the provider asks, nor more than a minute longer', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: maxAttempts - 1 }),
        random,
        fc.nat(300_000),
        (attempt, chance, retryAfterMs) => {
          const delayMs = retryDelayMs({ error: failure({ retryAfterMs }), attempt, random: chance });
          expect(delayMs).toBeGreaterThanOrEqual(retryAfterMs);
          expect(delayMs).toBeLessThanOrEqual(retryAfterMs + 60_000);
        },
      ),
    );
  });

  it('gives up when the provider asks for longer than an engine should hold a session', () => {
    const error = failure({ kind: 'rate_limit', retryAfterMs: 86_400_000 });
    expect(retryDelayMs({ error, attempt: 1, random: 0 })).toBeNull();
  });

  it('spreads sessions over the whole delay, and the delay grows to a cap', () => {
    const most = (attempt: number): number | null => retryDelayMs({ error: failure(), attempt, random: 1 });
    expect([1, 2, 3, 4, 5, 6, 7].map(most)).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 32_000]);
    expect(retryDelayMs({ error: failure(), attempt: 7, random: 0 })).toBe(0);
  });
});
