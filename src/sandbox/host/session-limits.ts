/**
 * The limits of a session outside its calls: how long its sandbox may sleep and live, and what ran into a limit while no
 * call could be told. That is journalled, since the host may have forgotten the session when it is next asked for, and
 * is handed out once.
 */
import type { RunningSandbox } from '../backend.ts';
import { hostLimits, type LimitCounters, type LimitHit, type Limits, noCounts } from '../limits.ts';
import { difference } from './call-limits.ts';
import type { Journal } from './journal.ts';

/** Untold ones; of more only the newest are kept. */
const MAX_UNTOLD = 64;

export function countersOf(sandbox: RunningSandbox): LimitCounters {
  return sandbox.counters?.() ?? { ...noCounts, oomKills: sandbox.oomKills() };
}

export class SessionLimits {
  #untold: LimitHit[] = [];
  /** What calls have told of the running sandbox. */
  #told: LimitCounters = noCounts;
  #limits: Limits | null = null;
  #sandbox: RunningSandbox | null = null;
  #lifetime: NodeJS.Timeout | null = null;

  recall(record: { type: 'limit'; hit: LimitHit } | { type: 'limits_told' }): void {
    if (record.type === 'limits_told') this.#untold = [];
    else this.#keep(record.hit);
  }

  #keep(hit: LimitHit): void {
    this.#untold.push(hit);
    if (this.#untold.length > MAX_UNTOLD) this.#untold.shift();
  }

  /** A sandbox of these limits runs from now on; its info says what the host keeps. */
  began(sandbox: RunningSandbox, limits: Limits, onLifetime: () => void): void {
    this.#limits = limits;
    this.#sandbox = sandbox;
    this.#told = noCounts;
    sandbox.info.limits = [...(sandbox.info.limits ?? []), ...hostLimits(limits)];
    if (limits.lifetimeMs === undefined) return;
    this.#lifetime = setTimeout(onLifetime, limits.lifetimeMs).unref();
  }

  /** It is about to be stopped, or has ended by itself. */
  ends(sandbox: RunningSandbox, journal: Journal): void {
    if (this.#sandbox !== sandbox) return;
    this.noticeBackground(journal);
    if (this.#lifetime !== null) clearTimeout(this.#lifetime);
    this.#lifetime = null;
    this.#sandbox = null;
  }

  /** A call has said what was counted until then. */
  told(counted: LimitCounters): void {
    const { oomKills, failedForks, throttledMs } = this.#told;
    this.#told = {
      oomKills: Math.max(oomKills, counted.oomKills),
      failedForks: Math.max(failedForks, counted.failedForks),
      throttledMs: Math.max(throttledMs, counted.throttledMs),
    };
  }

  /** Whatever was counted while no call ran is of processes that earlier calls left behind. */
  noticeBackground(journal: Journal): void {
    if (this.#sandbox === null || this.#limits === null) return;
    const counted = countersOf(this.#sandbox);
    const grown = difference(counted, this.#told);
    this.told(counted);
    const { memoryBytes, processes } = this.#limits;
    if (grown.oomKills > 0) this.note('memory_bytes', memoryBytes, grown.oomKills, journal);
    if (grown.failedForks > 0) this.note('processes', processes, grown.failedForks, journal);
  }

  note(limit: LimitHit['limit'], value: number, amount: number | null, journal: Journal): void {
    const hit: LimitHit = { limit, value, amount, atMs: Date.now() };
    this.#keep(hit);
    write(journal, { type: 'limit', hit });
  }

  take(journal: Journal): { limitHits?: LimitHit[] } {
    if (this.#untold.length === 0) return {};
    const limitHits = this.#untold;
    this.#untold = [];
    write(journal, { type: 'limits_told' });
    return { limitHits };
  }
}

/** It is told about, and not what anything hangs on: a disk that is full of it stops nothing. */
function write(journal: Journal, record: Parameters<Journal['written']>[0]): void {
  try {
    journal.written(record);
  } catch (error) {
    process.stderr.write(`journal of limits: ${(error as Error).message}\n`);
  }
}
