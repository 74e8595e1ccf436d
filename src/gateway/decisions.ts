/**
 * A session's network decisions on their way into its log: summed over a moment, numbered, kept until acknowledged.
 *
 * S4: what cannot be told is not done. When too many observations wait unacknowledged the session is backlogged, and
 * whoever asks `backlogged` lets nothing new through. What is refused then is summed in one record; nothing is dropped.
 */
import type { NetworkDecision } from './gateway.ts';

/** What records are summed by. */
export type DecisionKey = Pick<
  NetworkDecision,
  'protocol' | 'host' | 'port' | 'rule' | 'decision' | 'reason'
>;

export type DecisionDetail = {
  method?: string;
  /** Without its query. */
  path?: string;
  credentials?: readonly string[];
};

export type Observation = { seq: number; decision: NetworkDecision };

export type DecisionLogSettings = { windowMs?: number; maxWaiting?: number };

const maxPathLength = 256;
const maxPerAnswer = 500;
/** Refusals are told one by one up to so many, and so many a second from then on; the others in one record for host `*`. */
const refusalBurst = 500;
const refusalsPerSecond = 5;

export class DecisionLog {
  readonly #windowMs: number;
  readonly #maxWaiting: number;
  readonly #window = new Map<string, NetworkDecision>();
  #waiting: Observation[] = [];
  #lastSeq = 0;
  #refusals = refusalBurst;
  #refusalsAtMs = performance.now();
  #timer: NodeJS.Timeout | undefined;
  readonly #watchers = new Set<() => void>();

  constructor(settings: DecisionLogSettings = {}) {
    this.#windowMs = settings.windowMs ?? 1_000;
    this.#maxWaiting = settings.maxWaiting ?? 10_000;
  }

  get backlogged(): boolean {
    return this.#waiting.length + this.#window.size >= this.#maxWaiting;
  }

  /** Somebody is waiting for an answer to what was asked: it is told at once, not with the window. */
  record(key: DecisionKey, detail: DecisionDetail = {}): void {
    const full = this.backlogged && !this.#window.has(nameOf(key));
    const summed = full ? 'too many unread' : this.#isCrowded(key) ? 'more than are told one by one' : null;
    const told =
      summed === null
        ? key
        : { ...key, host: '*', port: null, rule: null, decision: 'denied' as const, reason: summed };
    const entry = this.#entry(told);
    entry.count += 1;
    if (summed === null) {
      if (detail.method !== undefined) entry.method = detail.method.slice(0, 32);
      if (detail.path !== undefined) entry.path = detail.path.slice(0, maxPathLength);
      for (const id of detail.credentials ?? []) {
        if (!entry.credentials.includes(id)) entry.credentials.push(id);
      }
    }
    if (key.decision === 'asked') this.flush();
  }

  /** A sandbox may be refused ever new names as fast as it can ask; the log that tells of them is kept for good. */
  #isCrowded(key: DecisionKey): boolean {
    if (key.decision !== 'denied' || this.#window.has(nameOf(key))) return false;
    const nowMs = performance.now();
    const earned = ((nowMs - this.#refusalsAtMs) / 1_000) * refusalsPerSecond;
    this.#refusals = Math.min(refusalBurst, this.#refusals + earned);
    this.#refusalsAtMs = nowMs;
    if (this.#refusals < 1) return true;
    this.#refusals -= 1;
    return false;
  }

  /** Bytes of what was allowed before; sums into the record of the moment. */
  bytes(key: DecisionKey, sent: number, received: number): void {
    const entry = this.#entry(key);
    entry.bytesSent += sent;
    entry.bytesReceived += received;
  }

  #entry(key: DecisionKey): NetworkDecision {
    const nowMs = Date.now();
    const name = nameOf(key);
    let entry = this.#window.get(name);
    if (!entry) {
      const { protocol, host, port, rule, decision, reason } = key;
      entry = {
        ...{ decision, protocol, host, port, rule, reason, method: null, path: null, credentials: [] },
        ...{ count: 0, bytesSent: 0, bytesReceived: 0, firstAtMs: nowMs, lastAtMs: nowMs },
      };
      this.#window.set(name, entry);
      this.#timer ??= setTimeout(() => this.flush(), this.#windowMs).unref();
    }
    entry.lastAtMs = nowMs;
    return entry;
  }

  /** Ends the moment: what was summed becomes observations, as far as there is room. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [name, decision] of this.#window) {
      if (this.#waiting.length >= this.#maxWaiting) break;
      this.#window.delete(name);
      this.#lastSeq += 1;
      this.#waiting.push({ seq: this.#lastSeq, decision });
    }
    for (const wake of [...this.#watchers]) wake();
  }

  /** Forgets those up to `acknowledge`, waits up to `waitMs` for others; the oldest first, a bounded number. */
  async observe(acknowledge: number, waitMs: number): Promise<Observation[]> {
    const wasFull = this.#waiting.length >= this.#maxWaiting;
    this.#waiting = this.#waiting.filter(({ seq }) => seq > acknowledge);
    if (wasFull) this.flush();
    if (this.#waiting.length === 0 && waitMs > 0) await this.#news(waitMs);
    return this.#waiting.slice(0, maxPerAnswer);
  }

  #news(waitMs: number): Promise<void> {
    return new Promise((done) => {
      const wake = () => {
        clearTimeout(timer);
        this.#watchers.delete(wake);
        done();
      };
      const timer = setTimeout(wake, waitMs).unref();
      this.#watchers.add(wake);
    });
  }
}

function nameOf(key: DecisionKey): string {
  return JSON.stringify([key.protocol, key.host, key.port, key.rule, key.decision, key.reason]);
}
