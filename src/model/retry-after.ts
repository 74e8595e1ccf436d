/**
 * What a provider asks us to wait, from its headers, in milliseconds. Null where it says nothing that makes sense.
 */

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * `retry-after-ms`, then `retry-after` (seconds or an HTTP date), then the reset of a limit that is used up. Resets
 * of limits with something left say nothing about this failure, and count only for a rate limit at all.
 */
export function retryAfterMsOf(headers: Headers, nowMs: number, isRateLimit: boolean): number | null {
  const direct = positive(Number.parseFloat(headers.get('retry-after-ms') ?? ''));
  if (direct !== null) return Math.ceil(direct);
  const after = headers.get('retry-after');
  if (after !== null) {
    const waitMs = /^\s*\d+(\.\d+)?\s*$/.test(after) ? Number(after) * 1000 : Date.parse(after) - nowMs;
    if (Number.isFinite(waitMs)) return Math.max(0, Math.ceil(waitMs));
  }
  return isRateLimit ? resetMs(headers) : null;
}

function resetMs(headers: Headers): number | null {
  const waits = ['requests', 'tokens'].flatMap((limit) => {
    const remaining = headers.get(`x-ratelimit-remaining-${limit}`);
    const waitMs = durationMs(headers.get(`x-ratelimit-reset-${limit}`) ?? '');
    return waitMs === null || (remaining !== null && Number(remaining) > 0) ? [] : [waitMs];
  });
  return waits.length === 0 ? null : Math.max(...waits);
}

/** `1s`, `6m0s`, `120ms`, `1h2m3.5s`; a bare number is seconds. */
export function durationMs(text: string): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) return Math.ceil(Number(text) * 1000);
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(text)) return null;
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    totalMs += Number(amount) * (unitMs[unit ?? ''] ?? 0);
  }
  return Math.ceil(totalMs);
}

function positive(value: number): number | null {
  return Number.isFinite(value) && value >= 0 ? value : null;
}
