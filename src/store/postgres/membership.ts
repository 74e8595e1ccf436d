/**
 * Who is alive, across processes (durability: liveness by lock, lease as backstop, fence for safety).
 *
 * - A worker is a row, and a lock on a connection of its own that is never recycled. The server frees the lock the
 *   moment that connection ends, however the process died; whoever looks next finds the row without its lock.
 * - What a lock cannot tell (a frozen process, a partition) the lease does: by the server's clock, renewed on the same
 *   connection.
 * - A worker that may have been taken for dead learns it by itself: its connection ended, its row is gone, or its lease
 *   was not renewed in time by its own monotonic clock. Safety never depends on that: every append carries its fence.
 */
import { failpoints, sabotaged } from '../../protocol/failpoint.ts';
import { newId } from '../../protocol/ids.ts';
import type { JsonObject } from '../../protocol/json.ts';
import type { Membership, Worker } from '../store.ts';
import { StoreUnavailable } from '../store.ts';
import type { Client, Pool } from './connection/pool.ts';
import { destroy } from './connection/pool.ts';
import type { Database } from './database.ts';
import { lockLiveness } from './lock.ts';
import { run } from './statements.ts';

export type Lease = {
  leaseMs: number;
  renewEveryMs: number /** Before its end by which a worker gives up. */;
  marginMs: number;
};

export const standardLease: Lease = { leaseMs: 10_000, renewEveryMs: 3_300, marginMs: 2_000 };

export class Members {
  readonly #pool: Pool;
  readonly #lease: Lease;
  readonly #living = new Set<Member>();

  constructor(pool: Pool, lease: Lease) {
    this.#pool = pool;
    this.#lease = lease;
  }

  async join(info: JsonObject): Promise<Membership> {
    const client = await this.#pool.dedicated('liveness');
    try {
      const member = await Member.register(client, this.#lease, info, () => this.#living.delete(member));
      this.#living.add(member);
      return { worker: member.worker, lost: member.lost, leave: () => member.leave() };
    } catch (error) {
      destroy(client);
      throw error;
    }
  }

  async leaveAll(): Promise<void> {
    await Promise.all([...this.#living].map((member) => member.leave()));
  }
}

/** One registered worker. Ends once: it leaves, or it is lost. */
class Member {
  readonly worker: string;
  readonly #client: Client;
  readonly #lease: Lease;
  readonly #lost = new AbortController();
  readonly #onEnd: () => void;
  #renewing: NodeJS.Timeout | undefined;
  #deadline: NodeJS.Timeout | undefined;
  /** Monotonic; when the last renewal that succeeded was asked for. */
  #renewedAtMs: number;
  #isEnded = false;

  private constructor(
    client: Client,
    lease: Lease,
    worker: string,
    registeredAtMs: number,
    onEnd: () => void,
  ) {
    this.#client = client;
    this.#lease = lease;
    this.worker = worker;
    this.#renewedAtMs = registeredAtMs;
    this.#onEnd = onEnd;
    client.once('end', () => this.#lose('its connection to the database ended'));
    client.once('error', (error) => this.#lose(`its connection to the database failed: ${error.message}`));
    this.#watch();
    this.#renewSoon();
  }

  /** The lock first: a row that is there has its lock, or its worker is dead. */
  static async register(client: Client, lease: Lease, info: JsonObject, onEnd: () => void): Promise<Member> {
    const key = await lockLiveness(client);
    const worker = newId('worker');
    const askedAtMs = performance.now();
    await run(client, 'register', [worker, key, leaseMsOf(lease), JSON.stringify(info)]);
    return new Member(client, lease, worker, askedAtMs, onEnd);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async leave(): Promise<void> {
    if (this.#isEnded) return;
    this.#end();
    // Where this fails the connection is gone, and with it the lock.
    await run(this.#client, 'unregister', [this.worker]).catch(() => undefined);
    await this.#client.end().catch(() => undefined);
  }

  #renewSoon(): void {
    this.#renewing = setTimeout(() => void this.#renew(), this.#lease.renewEveryMs);
  }

  async #renew(): Promise<void> {
    const askedAtMs = performance.now();
    try {
      const renewed = await run(this.#client, 'renew', [this.worker, leaseMsOf(this.#lease)]);
      if (renewed.length === 0) return this.#lose('it was taken for dead');
      this.#renewedAtMs = askedAtMs;
      this.#watch();
    } catch {
      // The deadline stands; a connection that broke says so itself.
    }
    if (!this.#isEnded) this.#renewSoon();
  }

  /** The server counts from when it renewed, we from when we asked: ours is over first. */
  #watch(): void {
    clearTimeout(this.#deadline);
    if (this.#isEnded || (failpoints.on && sabotaged('sabotage.no-self-fencing'))) return;
    const endsAtMs = this.#renewedAtMs + this.#lease.leaseMs - this.#lease.marginMs;
    this.#deadline = setTimeout(
      () => this.#lose('its lease could not be renewed in time'),
      Math.max(0, endsAtMs - performance.now()),
    );
  }

  #lose(reason: string): void {
    if (this.#isEnded) return;
    this.#end();
    // Frees the lock, so that others need not wait for the lease.
    destroy(this.#client);
    this.#lost.abort(new StoreUnavailable(`worker ${this.worker} is no member any more: ${reason}`));
  }

  #end(): void {
    this.#isEnded = true;
    clearTimeout(this.#renewing);
    clearTimeout(this.#deadline);
    this.#onEnd();
  }
}

function leaseMsOf({ leaseMs }: Lease): number {
  return failpoints.on && sabotaged('sabotage.no-lease') ? 86_400_000 : leaseMs;
}

export async function workers({ pool }: Database): Promise<Worker[]> {
  const rows = await pool.use((connection) =>
    run<{ worker: string; info: string }>(connection, 'livingWorkers', []),
  );
  return rows.map(({ worker, info }) => ({ worker, info: JSON.parse(info) as JsonObject }));
}

/** One statement, so that of many who look exactly one takes a dead worker away. */
export async function reapDead({ pool, nowMs }: Database): Promise<{ stream: string; head: number }[]> {
  const isLockless = failpoints.on && sabotaged('sabotage.no-liveness-lock');
  const name = isLockless ? 'reapExpired' : 'reapDead';
  return pool.use((connection) => run(connection, name, [Math.floor(nowMs())]));
}
