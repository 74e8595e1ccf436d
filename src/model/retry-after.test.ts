import { describe, expect, it } from 'vitest';
import { durationMs, retryAfterMsOf } from './retry-after.ts';

const nowMs = Date.parse('2026-11-20T12:00:00Z');

function wait(headers: Record<string, string>, isRateLimit = true): number | null {
  return retryAfterMsOf(new Headers(headers), nowMs, isRateLimit);
}

describe('what a provider asks to wait', () => {
  it('is read from milliseconds, seconds and dates, in this order', () => {
    expect(wait({ 'retry-after-ms': '1234.5', 'retry-after': '60' })).toBe(1235);
    expect(wait({ 'retry-after': '2' })).toBe(2000);
    expect(wait({ 'retry-after': '0.25' })).toBe(250);
    expect(wait({ 'retry-after': 'Fri, 20 Nov 2026 12:00:30 GMT' })).toBe(30_000);
  });

  it('is never negative for a date that has passed', () => {
    expect(wait({ 'retry-after': 'Fri, 20 Nov 2026 11:59:00 GMT' })).toBe(0);
  });

  it('is the reset of a limit that is used up, not of one with something left', () => {
    const headers = {
      'x-ratelimit-remaining-requests': '5',
      'x-ratelimit-reset-requests': '1h',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '6m0.5s',
    };
    expect(wait(headers)).toBe(360_500);
    expect(wait(headers, false)).toBeNull();
  });

  it('is nothing where the headers are nonsense', () => {
    expect(
      wait({ 'retry-after': 'soon', 'retry-after-ms': 'NaN', 'x-ratelimit-reset-tokens': 'later' }),
    ).toBeNull();
    expect(wait({})).toBeNull();
    expect(durationMs('1h2m3.5s')).toBe(3_723_500);
    expect(durationMs('120ms')).toBe(120);
    expect(durationMs('')).toBeNull();
  });
});
