/**
 * The engine: claims sessions that are due, drives each with one driver, lets go when it rests.
 *
 * - Holds nothing for a session that sleeps or waits: a claim begins with the log and ends with a release.
 * - L8: when the store fails it lets everything go, waits, and joins again under a new name; the fence keeps what it had
 *   begun from being written twice.
 */
import { newId } from '../protocol/ids.ts';
import type { Claim, Store } from '../store/store.ts';
import { StoreUnavailable } from '../store/store.ts';
import type { DriveEnd, Driver } from './drive.ts';

export type EngineOptions = {
  store: Store;
  newDriver(claim: Claim, worker: string): Driver;
  nowMs(): number;
  /** Sessions driven at once; others wait in the store. */
  slots: number;
  onError(error: unknown, stream: string | null): void;
};

/** Backstop for a wake-up that was missed; hints are the rule. */
const pollMs = 1_000;
const rejoinMs = 500;
/** A session whose driver fails again and again is left alone for longer and longer, up to this. */
const firstPoisonMs = 250;
const maxPoisonMs = 60_000;

export class Engine {
  readonly #options: EngineOptions;
  readonly #drivers = new Map<string, { driver: Driver; done: Promise<void> }>();
  readonly #failures = new Map<string, number>();
  #worker = newId('worker');
  #isStopped = true;
  #timer: NodeJS.Timeout | null = null;
  #claiming: Promise<void> | null = null;
  #claimAgain = false;
  #unsubscribe: (() => void) | null = null;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** Takes over what dead engines left, then claims what is due. */
  async start(): Promise<void> {
    this.#isStopped = false;
    await this.#options.store.reap([this.#worker]);
    this.#unsubscribe = this.#options.store.onAppend((touched) => this.#touched(touched));
    this.#claimSoon();
  }

  /** Lets everything go; commands go on in the host for the next engine. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unsubscribe?.();
    if (this.#timer) clearTimeout(this.#timer);
    await this.#claiming?.catch(() => undefined);
    for (const { driver } of this.#drivers.values()) driver.stop();
    await Promise.all([...this.#drivers.values()].map(({ done }) => done));
  }

  get driving(): number {
    return this.#drivers.size;
  }

  #touched(touched: { stream: string; head: number }[]): void {
    let isForOthers = false;
    for (const { stream, head } of touched) {
      const mine = this.#drivers.get(stream);
      if (mine) mine.driver.hint(head);
      else isForOthers = true;
    }
    if (isForOthers) this.#claimSoon();
  }

  #claimSoon(): void {
    this.#claimAgain = true;
    this.#claiming ??= this.#claimAll().finally(() => {
      this.#claiming = null;
    });
  }

  async #claimAll(): Promise<void> {
    while (this.#claimAgain && !this.#isStopped) {
      this.#claimAgain = false;
      try {
        const free = this.#options.slots - this.#drivers.size;
        const claims = free > 0 ? await this.#options.store.claim(this.#worker, free) : [];
        for (const claim of claims) this.#drive(claim);
        await this.#sleepUntilDue();
      } catch (error) {
        this.#options.onError(error, null);
        this.#wakeIn(rejoinMs);
      }
    }
  }

  async #sleepUntilDue(): Promise<void> {
    const next = await this.#options.store.nextWakeAt();
    const waitMs = next === null ? pollMs : Math.min(pollMs, Math.max(1, next - this.#options.nowMs()));
    this.#wakeIn(waitMs);
  }

  #wakeIn(delayMs: number): void {
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.#claimSoon(), delayMs);
  }

  #drive(claim: Claim): void {
    const driver = this.#options.newDriver(claim, this.#worker);
    const done = this.#untilRest(claim, driver).finally(() => {
      this.#drivers.delete(claim.stream);
      if (!this.#isStopped) this.#claimSoon();
    });
    this.#drivers.set(claim.stream, { driver, done });
  }

  async #untilRest(claim: Claim, driver: Driver): Promise<void> {
    try {
      const end: DriveEnd = await driver.run();
      if (end === 'rested') this.#failures.delete(claim.stream);
    } catch (error) {
      this.#options.onError(error, claim.stream);
      if (error instanceof StoreUnavailable) await this.#rejoin();
      else await this.#putAside(claim, driver);
    }
  }

  /** A driver that failed by a bug must not spin: the session comes back later, and later still. */
  async #putAside(claim: Claim, driver: Driver): Promise<void> {
    const failures = (this.#failures.get(claim.stream) ?? 0) + 1;
    this.#failures.set(claim.stream, failures);
    const delayMs = Math.min(maxPoisonMs, firstPoisonMs * 2 ** failures);
    await driver
      .putAside(this.#options.nowMs() + delayMs)
      .catch((error: unknown) => this.#options.onError(error, claim.stream));
  }

  /** L8: our claims are void under a new name; the reap raises their fences. */
  async #rejoin(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, rejoinMs));
    if (this.#isStopped) return;
    this.#worker = newId('worker');
    const alive = [this.#worker];
    await this.#options.store.reap(alive).catch((error: unknown) => this.#options.onError(error, null));
    this.#claimSoon();
  }
}
