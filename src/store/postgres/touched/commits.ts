/**
 * Who hears of commits. Those of this process are told at once; those of others come by NOTIFY, soon, and by a poll of
 * what was committed since the last one, for certain.
 *
 * - NOTIFY is sent apart from appends and for many streams at a time: inside the append's transaction it would make all
 *   commits of the server wait for each other.
 * - The poll asks by snapshot: events of transactions that the last poll's snapshot could not see. Numbers are given
 *   out in another order than commits happen; a snapshot is the order of commits, so nothing is passed over.
 */
import { randomUUID } from 'node:crypto';
import type { Client, Connection, Pool } from '../connection/pool.ts';
import { ask, destroy } from '../connection/pool.ts';
import type { Touched } from './payload.ts';
import { payloadsOf, touchedOf } from './payload.ts';

const channel = 'scriptorium_touched';
const gatherMs = 5;
const pollMs = 1_000;
const firstRetryMs = 100;
const maxRetryMs = 2_000;

export type Listener = (touched: Touched[]) => void;

export class Commits {
  readonly #pool: Pool;
  readonly #origin = randomUUID();
  readonly #listeners = new Set<Listener>();
  readonly #unsent = new Map<string, Touched>();
  /** What listeners were told since the last poll, and in the time before it: newest head of each stream. */
  #told = new Map<string, number>();
  #toldBefore = new Map<string, number>();
  #sending: NodeJS.Timeout | null = null;
  #polling: NodeJS.Timeout | null = null;
  #listening: Client | null = null;
  #snapshot: string | null = null;
  #isListening = false;
  #isClosed = false;
  readonly #onForeign: (touched: Touched) => void;

  constructor(pool: Pool, onForeign: (touched: Touched) => void) {
    this.#pool = pool;
    this.#onForeign = onForeign;
  }

  /**
   * Before anybody can subscribe: a subscriber reads what is there after it subscribed, so every commit from before that
   * moment on has to be found.
   */
  async start(): Promise<void> {
    await this.#look();
    this.#pollSoon();
  }

  subscribe(listener: Listener): () => void {
    // Wrapped, so that registering one function twice makes two subscriptions.
    const own: Listener = (touched) => listener(touched);
    this.#listeners.add(own);
    if (!this.#isListening) {
      this.#isListening = true;
      void this.#listen(firstRetryMs);
    }
    return () => this.#listeners.delete(own);
  }

  /** A commit of this process. */
  committed(touched: Touched[]): void {
    this.#tell(touched);
    for (const one of touched) {
      const isOwners = one.isOwners === true && this.#unsent.get(one.stream)?.isOwners !== false;
      this.#unsent.set(one.stream, { ...one, isOwners });
    }
    if (!this.#isClosed) this.#sending ??= setTimeout(() => void this.#send(), gatherMs);
  }

  async close(): Promise<void> {
    if (this.#sending !== null) clearTimeout(this.#sending);
    this.#isClosed = true;
    if (this.#unsent.size > 0) await this.#send();
    if (this.#polling !== null) clearTimeout(this.#polling);
    if (this.#listening !== null) this.#pool.close(this.#listening);
  }

  #tell(touched: Touched[]): void {
    for (const { stream, head } of touched) this.#told.set(stream, head);
    for (const listener of [...this.#listeners]) listener(touched);
  }

  #tellForeign(news: readonly Touched[]): void {
    for (const one of news) this.#onForeign(one);
    if (news.length > 0) this.#tell([...news]);
  }

  #newestTold(stream: string): number {
    return this.#told.get(stream) ?? this.#toldBefore.get(stream) ?? 0;
  }

  async #send(): Promise<void> {
    const touched = [...this.#unsent.values()];
    this.#unsent.clear();
    try {
      await this.#pool.use(async (connection) => {
        for (const payload of payloadsOf(this.#origin, touched)) {
          await ask(connection, 'SELECT pg_notify($1, $2)', [channel, payload], 'notify');
        }
      });
    } catch {
      // The others' poll finds it.
    }
    this.#sending = null;
    if (this.#unsent.size > 0 && !this.#isClosed) {
      this.#sending = setTimeout(() => void this.#send(), gatherMs);
    }
  }

  async #listen(retryMs: number): Promise<void> {
    if (this.#isClosed) return;
    try {
      const client = await this.#pool.dedicated('notifications');
      client.on('notification', ({ payload }) => this.#receive(payload));
      client.once('end', () => this.#listenAgain(firstRetryMs));
      this.#listening = client;
      await client.query(`LISTEN ${channel}`);
      if (this.#isClosed) destroy(client);
    } catch {
      this.#listenAgain(Math.min(maxRetryMs, retryMs * 2));
    }
  }

  #listenAgain(retryMs: number): void {
    if (this.#isClosed) return;
    this.#listening = null;
    setTimeout(() => void this.#listen(retryMs), retryMs).unref();
  }

  #receive(payload: string | undefined): void {
    const said = touchedOf(payload);
    if (said === null || said.from === this.#origin) return;
    // The same head again says that the stream was freed; an older one says nothing.
    this.#tellForeign(said.touched.filter(({ stream, head }) => head >= this.#newestTold(stream)));
  }

  async #poll(): Promise<void> {
    try {
      await this.#look();
    } catch {
      // The next one asks from the same snapshot on.
    }
    this.#pollSoon();
  }

  async #look(): Promise<void> {
    const { snapshot, touched } = await this.#pool.use((connection) =>
      committedSince(connection, this.#snapshot),
    );
    this.#snapshot = snapshot;
    this.#tellForeign(touched.filter(({ stream, head }) => head > this.#newestTold(stream)));
    // Whatever the next look finds was committed after this one, and told after the one before.
    this.#toldBefore = this.#told;
    this.#told = new Map();
  }

  #pollSoon(): void {
    if (this.#isClosed) return;
    this.#polling = setTimeout(() => void this.#poll(), pollMs * (0.9 + Math.random() / 5));
    this.#polling.unref();
  }
}

/** Transactions of the future are of another server, whose dump was restored here. */
async function committedSince(
  connection: Connection,
  snapshot: string | null,
): Promise<{ snapshot: string; touched: Touched[] }> {
  const rows = await ask<{ snapshot: string; stream: string | null; head: number | null; isOwners: boolean }>(
    connection,
    `SELECT pg_current_snapshot()::text AS snapshot, e.stream, e.head, e."isOwners" FROM (SELECT) AS one LEFT JOIN (
        SELECT stream, max(seq) AS head, bool_and(fence IS NOT NULL) AS "isOwners" FROM events
        WHERE transaction_id >= pg_snapshot_xmin($1::text::pg_snapshot)
          AND transaction_id < pg_snapshot_xmax(pg_current_snapshot())
          AND NOT pg_visible_in_snapshot(transaction_id, $1::text::pg_snapshot)
        GROUP BY stream
      ) AS e ON true`,
    [snapshot],
    'committedSince',
  );
  const touched = rows.flatMap(({ stream, head, isOwners }) =>
    stream === null || head === null ? [] : [{ stream, head, isOwners }],
  );
  return { snapshot: rows[0]?.snapshot ?? snapshot ?? '', touched };
}
