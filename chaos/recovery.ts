/** How long nothing happened after a death: from it to the next position of any log that any client sees. Pure. */
import type { Death } from './topology.ts';

export type Recovery = { count: number; p50Ms: number; p99Ms: number; maxMs: number };

/** `newsMs`: monotonic times, ascending. A death after which the run ended is none to recover from. */
export function recoveriesOf(
  deaths: readonly Pick<Death, 'monotonicMs'>[],
  newsMs: readonly number[],
): Recovery {
  const times = deaths
    .map(({ monotonicMs }) => {
      const next = newsMs.find((atMs) => atMs > monotonicMs);
      return next === undefined ? null : next - monotonicMs;
    })
    .filter((ms) => ms !== null)
    .sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0;
  return { count: times.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: times.at(-1) ?? 0 };
}
