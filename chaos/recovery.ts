/** How long nothing happened after a death: from it to the next position of any log that any client sees. Pure. */
import type { Death } from './topology.ts';

export type Recovery = {
  /** Deaths from which the run came back before something else died. */
  count: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** What the longest one followed. */
  slowest: string | null;
  /** Deaths in the middle of another recovery: how long those took says something about the attack only. */
  interrupted: number;
};

type Dying = Pick<Death, 'monotonicMs' | 'role' | 'cause'>;

/** Both ascending, monotonic times. A death after which nothing came any more is none to recover from. */
export function recoveriesOf(deaths: readonly Dying[], newsMs: readonly number[]): Recovery {
  const times: { ms: number; after: string }[] = [];
  let interrupted = 0;
  for (const [index, { monotonicMs, role, cause }] of deaths.entries()) {
    const nextNewsMs = newsMs.find((atMs) => atMs > monotonicMs);
    if (nextNewsMs === undefined) continue;
    const nextDeath = deaths[index + 1];
    const before = deaths[index - 1];
    const isDisturbed =
      (nextDeath !== undefined && nextDeath.monotonicMs < nextNewsMs) ||
      (before !== undefined && !newsMs.some((atMs) => atMs > before.monotonicMs && atMs < monotonicMs));
    if (isDisturbed) interrupted++;
    else times.push({ ms: nextNewsMs - monotonicMs, after: `${role} ${cause}` });
  }
  times.sort((a, b) => a.ms - b.ms);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(share * times.length))]?.ms ?? 0;
  const last = times.at(-1);
  return {
    count: times.length,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: last?.ms ?? 0,
    slowest: last?.after ?? null,
    interrupted,
  };
}
