/**
 * When to try a failed call again. Pure: the caller supplies the randomness and does the waiting.
 *
 * Full jitter, because many sessions fail at the same instant when a provider does, and would come back together.
 * What the provider asks for is a floor under our own delay, never a replacement for it; and it is bounded, because a
 * header of another day must not put a session to sleep until then.
 */
import type { ModelError } from './model.ts';

export const maxAttempts = 8;
const baseDelayMs = 500;
const maxDelayMs = 60_000;
/** Longer waits are for the session's own timers: giving up frees the engine and says why. */
const maxProviderWaitMs = 300_000;

export type RetryQuestion = {
  error: ModelError;
  /** How many attempts have failed, this one included. */
  attempt: number;
  /** In [0, 1). */
  random: number;
};

/** Milliseconds to wait before the next attempt, or null to give up. */
export function retryDelayMs({ error, attempt, random }: RetryQuestion): number | null {
  if (!error.isRetryable || attempt >= maxAttempts) return null;
  const ceilingMs = Math.min(maxDelayMs, baseDelayMs * 2 ** Math.max(0, attempt - 1));
  const jitterMs = Math.ceil(random * ceilingMs);
  if (error.retryAfterMs === null) return jitterMs;
  if (error.retryAfterMs > maxProviderWaitMs) return null;
  return error.retryAfterMs + jitterMs;
}
