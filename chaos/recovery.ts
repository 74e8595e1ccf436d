/**
 * How long a session stood still because the server that drove it died: from the death to the first event of the next
 * owner, as a client sees it. Pure, and free of the machine's wall clock, which is under attack.
 *
 * Who owns a session shows in the fences of its log. Only sessions that were at work count, and only where nothing else
 * died in between: how long those took says something about the attack only.
 */
import type { LogEvent } from './evidence.ts';
import type { Death } from './topology.ts';

/** When somebody first saw a position of a session's log. */
export type News = { seq: number; monotonicMs: number };

export type Recovery = {
  count: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  /** What the longest one followed. */
  slowest: string | null;
  /** Takeovers in whose middle something else died. */
  interrupted: number;
};

type Dying = Pick<Death, 'monotonicMs' | 'role' | 'cause'>;
type Takeover = { fromMs: number; untilMs: number };

export function recoveriesOf(
  deaths: readonly Dying[],
  sessions: readonly { log: readonly LogEvent[]; news: readonly News[] }[],
): Recovery {
  const servers = deaths.filter(({ role }) => role === 'server');
  const times: { ms: number; after: string }[] = [];
  let interrupted = 0;
  for (const { fromMs, untilMs } of sessions.flatMap(takeoversOf)) {
    const between = servers.filter(({ monotonicMs }) => monotonicMs > fromMs && monotonicMs < untilMs);
    const [death] = between;
    // None: it was handed over for another reason, a freeze say.
    if (between.length === 1 && death) times.push({ ms: untilMs - death.monotonicMs, after: death.cause });
    else interrupted += between.length > 1 ? 1 : 0;
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

/** From the last sign of one owner at work to the first of the next. */
function takeoversOf({ log, news }: { log: readonly LogEvent[]; news: readonly News[] }): Takeover[] {
  const takeovers: Takeover[] = [];
  let before: LogEvent | null = null;
  for (const event of log) {
    if (event.fence === null) continue;
    if (before && event.fence > (before.fence ?? 0) && before.type !== 'session.status_idle') {
      const fromMs = news.findLast(({ seq }) => seq <= (before?.seq ?? 0))?.monotonicMs;
      const untilMs = news.find(({ seq }) => seq >= event.seq)?.monotonicMs;
      if (fromMs !== undefined && untilMs !== undefined) takeovers.push({ fromMs, untilMs });
    }
    before = event;
  }
  return takeovers;
}
