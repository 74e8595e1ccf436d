/** What bounds one call, and what ran into a limit while it ran. */
import type { LimitCounters, LimitHit, Limits } from '../limits.ts';

/** Being held back is said where it cost at least this, and this part of the call's time. */
const LEAST_THROTTLED_MS = 100;
const LEAST_THROTTLED_PART = 0.1;

type Asked = { timeoutMs: number; maxOutputBytes: number; isOurs?: boolean };

export type CallEnd = {
  isTimeout: boolean;
  isLifetime: boolean;
  droppedBytes: number;
  durationMs: number;
  /** The sandbox could not even fork. */
  hasNotStarted: boolean;
};

export class CallLimits {
  readonly timeoutMs: number;
  readonly maxOutputBytes: number;
  readonly #asked: Asked;
  readonly #limits: Limits | null;
  readonly #counters: () => LimitCounters;
  readonly #before: LimitCounters;
  /** As they were when it was said what ran into a limit. */
  told: LimitCounters;

  constructor(asked: Asked, limits: Limits | null, counters: () => LimitCounters) {
    this.#asked = asked;
    this.#limits = limits;
    this.#counters = counters;
    this.#before = counters();
    this.told = this.#before;
    const { wallTimeMs, outputBytes } = asked.isOurs || limits === null ? {} : limits;
    this.timeoutMs = Math.min(asked.timeoutMs, wallTimeMs ?? asked.timeoutMs);
    this.maxOutputBytes = Math.min(asked.maxOutputBytes, outputBytes ?? asked.maxOutputBytes);
  }

  oomKills(): number {
    return this.#counters().oomKills - this.#before.oomKills;
  }

  /** Where several calls run at once, what the kernel counted is told with each of them. */
  hits(end: CallEnd): LimitHit[] {
    const limits = this.#limits;
    if (limits === null) return [];
    const atMs = Date.now();
    const hits: LimitHit[] = [];
    const hit = (limit: LimitHit['limit'], value: number, amount: number | null): void => {
      hits.push({ limit, value, amount, atMs });
    };
    this.told = this.#counters();
    const grown = difference(this.told, this.#before);
    const failedForks = Math.max(grown.failedForks, end.hasNotStarted ? 1 : 0);
    if (grown.oomKills > 0) hit('memory_bytes', limits.memoryBytes, grown.oomKills);
    if (failedForks > 0) hit('processes', limits.processes, failedForks);
    const leastMs = Math.max(LEAST_THROTTLED_MS, LEAST_THROTTLED_PART * end.durationMs);
    if (limits.cpuCores !== undefined && grown.throttledMs >= leastMs)
      hit('cpu_cores', limits.cpuCores, grown.throttledMs);
    // A call that asked for less itself has run into what it asked for.
    const isOutputOurs = this.maxOutputBytes < this.#asked.maxOutputBytes;
    const isTimeOurs = this.timeoutMs < this.#asked.timeoutMs;
    if (end.droppedBytes > 0 && isOutputOurs) hit('output_bytes', this.maxOutputBytes, end.droppedBytes);
    if (end.isTimeout && isTimeOurs) hit('wall_time_ms', this.timeoutMs, null);
    if (end.isLifetime && limits.lifetimeMs !== undefined) hit('lifetime_ms', limits.lifetimeMs, null);
    return hits;
  }
}

/** Counters of groups that are gone say 0: nothing has shrunk. */
export function difference(now: LimitCounters, before: LimitCounters): LimitCounters {
  const grown = (name: keyof LimitCounters): number => Math.max(0, now[name] - before[name]);
  return {
    oomKills: grown('oomKills'),
    failedForks: grown('failedForks'),
    throttledMs: grown('throttledMs'),
  };
}
