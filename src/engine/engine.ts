/**
 * The engine: claims sessions that are due, drives each with one driver, lets go when it rests.
 *
 * - Holds nothing for a session that sleeps or waits: a claim begins with the log and ends with a release.
 * - L8: when the store fails a session, that session is given back once the store is there again; others go on. When it
 *   fails a claim, nobody knows what was claimed: the engine lets everything go and joins again under a new name. The
 *   fence keeps what it had begun from being written twice.
 * - An engine that others may take for dead (its membership is lost) starts nothing any more under its name: it abandons
 *   what it drives without releasing it, and joins again. Engines look for the dead among each other.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { failpoint, failpoints } from '../protocol/failpoint.ts';
import type { JsonObject } from '../protocol/json.ts';
import { HostAway } from '../sandbox/executor.ts';
import type { Claim, Membership, Store, Touched } from '../store/store.ts';
import { StoreUnavailable } from '../store/store.ts';
import type { DriveEnd, Driver } from './drive.ts';
import type { Woken } from './waker.ts';

export type EngineOptions = {
  store: Store;
  newDriver(claim: Claim, worker: string): Driver;
  nowMs(): number;
  /** What others may know of this process: its role, and where it can be dialled. */
  about?(): JsonObject;
  /** Sessions driven at once; others wait in the store. */
  slots: number;
  onError(error: unknown, stream: string | null): void;
};

/** Backstop for a wake-up that was missed; hints are the rule. */
const pollMs = 1_000;
/** How long a store that failed is left alone. */
const rejoinMs = 500;
/** How often a session asks for a host that is away. */
const hostAwayMs = 5_000;
/** A session whose driver fails again and again is left alone for longer and longer, up to this. */
const firstPoisonMs = 250;
const maxPoisonMs = 60_000;
/** A turn at which drivers fail so many times in a row is ended with the reason. */
const maxFailures = 10;

export class Engine implements Woken {
  readonly #options: EngineOptions;
  readonly #drivers = new Map<string, Driver>();
  readonly #ending = new Set<Promise<unknown>>();
  readonly #ends = new Map<string, Promise<DriveEnd>>();
  /**
   * How often in a row a session's driver failed here. Of the process, on purpose: counting in the log would write to
   * what may be the very thing that fails, and another process, maybe of a release that mends it, may well succeed.
   */
  readonly #failures = new Map<string, number>();
  #member: Membership | null = null;
  #isStopped = true;
  #timer: NodeJS.Timeout | null = null;
  #reaping: NodeJS.Timeout | null = null;
  #claiming: Promise<void> | null = null;
  #claimAgain = false;
  #unsubscribe: (() => void) | null = null;

  constructor(options: EngineOptions) {
    this.#options = options;
  }

  /** Takes over what dead engines left, then claims what is due. */
  async start(): Promise<void> {
    this.#isStopped = false;
    await this.#join();
    this.#reapLater();
    this.#unsubscribe = this.#options.store.onAppend((touched) => this.#touched(touched));
    this.#claimSoon();
  }

  /** Lets everything go; commands go on in the host for the next engine. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unsubscribe?.();
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#reaping) clearTimeout(this.#reaping);
    await this.#claiming?.catch(() => undefined);
    for (const driver of this.#drivers.values()) driver.stop();
    await Promise.all(this.#ending);
    await this.#leave();
  }

  /**
   * Claims nothing more; a model that is speaking may finish its sentence for so long. Then everything is let go: commands
   * go on in the host, for the engine that claims their session next.
   */
  async drain(graceMs: number): Promise<void> {
    this.#isStopped = true;
    // What is being claimed at this moment is driven, too, and then let go like the rest.
    await this.#claiming?.catch(() => undefined);
    for (const driver of this.#drivers.values()) driver.drain();
    const patience = new AbortController();
    const tooLong = sleep(graceMs, undefined, { signal: patience.signal }).catch(() => undefined);
    await Promise.race([Promise.all(this.#ending), tooLong]);
    patience.abort();
    await this.stop();
  }

  /** See `Woken`. One more than there are slots for may be driven for each that is asked: whoever asks holds back. */
  async runTurn(session: string): Promise<'rested' | 'gone'> {
    const end = await (this.#ends.get(session) ?? this.#claimAndDrive(session));
    if (end === 'stopped') throw new StoreUnavailable('the engine stops; another one goes on');
    return end === 'rested' ? 'rested' : 'gone';
  }

  async #claimAndDrive(session: string): Promise<DriveEnd> {
    const member = this.#member;
    if (this.#isStopped || member === null) return 'stopped';
    const claim = await this.#options.store.claimStream(member.worker, session);
    if (claim === null) return this.#ends.get(session) ?? 'fenced';
    // Claimed under a name that is dead, or for an engine that stops: it is reaped, not driven.
    if (this.#member !== member || this.#isStopped) return 'stopped';
    return this.#drive(claim, member.worker);
  }

  /** Takes a name under which to claim, and takes over what the dead left. */
  async #join(): Promise<void> {
    const { store } = this.#options;
    const member = await store.join(this.#options.about?.() ?? {});
    this.#member = member;
    member.lost.addEventListener('abort', () => this.#lost(member), { once: true });
    await store.reapDead();
  }

  async #leave(): Promise<void> {
    const member = this.#member;
    this.#member = null;
    await member?.leave().catch((error: unknown) => this.#complain(error, null));
  }

  #lost(member: Membership): void {
    if (this.#member !== member) return;
    this.#member = null;
    this.#abandonAll();
    if (this.#isStopped) return;
    this.#complain(member.lost.reason, null);
    this.#claimSoon();
  }

  #abandonAll(): void {
    for (const driver of this.#drivers.values()) driver.abandon();
  }

  /** All engines look, at times of their own; whoever finds a dead one claims what it left, as far as there is room. */
  #reapLater(): void {
    const { store } = this.#options;
    if (store.reapEveryMs === null || this.#isStopped) return;
    const reap = async (): Promise<void> => {
      try {
        if ((await store.reapDead()) > 0) this.#claimSoon();
      } catch (error) {
        // A store that is away is complained of by those who need it.
        if (!(error instanceof StoreUnavailable)) this.#complain(error, null);
      }
      this.#reapLater();
    };
    this.#reaping = setTimeout(() => void reap(), store.reapEveryMs * (0.75 + Math.random() / 2));
  }

  get driving(): number {
    return this.#drivers.size;
  }

  /** What others append to their own sessions is no work for us; the poll finds what a hint did not say. */
  #touched(touched: Touched[]): void {
    let isForOthers = false;
    for (const { stream, head, isOwners } of touched) {
      const mine = this.#drivers.get(stream);
      if (mine) mine.hint(head);
      else if (isOwners !== true) isForOthers = true;
    }
    if (isForOthers) this.#claimSoon();
  }

  #claimSoon(): void {
    this.#claimAgain = true;
    this.#claiming ??= this.#claimAll().finally(() => {
      this.#claiming = null;
      // Asked for after the last look and before this line: nobody else would come back to it.
      if (this.#claimAgain && !this.#isStopped) this.#claimSoon();
    });
  }

  async #claimAll(): Promise<void> {
    while (this.#claimAgain && !this.#isStopped) {
      this.#claimAgain = false;
      const free = this.#options.slots - this.#drivers.size;
      // In a full house nothing is asked: whoever leaves claims for the next one.
      if (free <= 0) continue;
      try {
        const member = this.#member;
        if (member === null) {
          await this.#join();
          this.#claimAgain = true;
          continue;
        }
        const claims = await this.#options.store.claim(member.worker, free);
        if (failpoints.on && claims.length > 0) await failpoint('engine.after-claim');
        // Claimed under a name that is dead by now: it is reaped, not driven.
        if (this.#member === member) for (const claim of claims) void this.#drive(claim, member.worker);
        await this.#sleepUntilDue();
      } catch (error) {
        this.#complain(error, null);
        await this.#rejoin();
      }
    }
  }

  async #sleepUntilDue(): Promise<void> {
    const next = await this.#options.store.nextWakeAt().catch((error: unknown) => {
      this.#complain(error, null);
      return null;
    });
    const waitMs = next === null ? pollMs : Math.min(pollMs, Math.max(1, next - this.#options.nowMs()));
    if (this.#timer) clearTimeout(this.#timer);
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => this.#claimSoon(), waitMs);
  }

  #drive(claim: Claim, worker: string): Promise<DriveEnd> {
    const { stream } = claim;
    const driver = this.#options.newDriver(claim, worker);
    const end = this.#untilRest(claim, driver);
    this.#ends.set(stream, end);
    // How it fails is for whoever asked by `runTurn`; everybody else has been told by `onError`.
    const done = end
      .catch(() => undefined)
      .finally(() => {
        this.#ending.delete(done);
        if (this.#ends.get(stream) === end) this.#ends.delete(stream);
        // After a rejoin a later driver of the same session may stand there already.
        if (this.#drivers.get(stream) === driver) this.#drivers.delete(stream);
        if (!this.#isStopped) this.#claimSoon();
      });
    this.#ending.add(done);
    this.#drivers.set(stream, driver);
    return end;
  }

  /** Rejects with what the driver failed by, once the session is given back. */
  async #untilRest(claim: Claim, driver: Driver): Promise<DriveEnd> {
    const { stream } = claim;
    try {
      // Whoever fences us counts for itself.
      const end = await driver.run();
      if (end !== 'stopped') this.#failures.delete(stream);
      return end;
    } catch (error) {
      // Nobody's fault and nothing new: the log waits for the host, not this process.
      const isHostAway = error instanceof HostAway;
      if (!isHostAway) this.#complain(error, stream);
      if (isHostAway) await this.#giveBack(stream, driver, hostAwayMs);
      else if (error instanceof StoreUnavailable) await this.#giveBack(stream, driver, rejoinMs);
      else await this.#giveBack(stream, driver, await this.#afterBug(stream, driver, error));
      throw error;
    }
  }

  /**
   * A driver that failed by a bug must not spin: the session comes back later, and later still, and in the end its turn
   * is stopped with a reason. What cannot even be stopped stays aside, and is told of every time.
   */
  async #afterBug(stream: string, driver: Driver, error: unknown): Promise<number> {
    const failures = driver.hasAdvanced ? 1 : (this.#failures.get(stream) ?? 0) + 1;
    this.#failures.set(stream, failures);
    if (failures < maxFailures) return Math.min(maxPoisonMs, firstPoisonMs * 2 ** failures);
    try {
      const message = error instanceof Error ? error.message : String(error);
      const reason = `The engine failed ${failures} times in a row at this turn and stopped it: ${message}`;
      if (!(await driver.giveUp(reason))) return maxPoisonMs;
      this.#failures.delete(stream);
      return 0;
    } catch (another) {
      this.#complain(another, stream);
      return another instanceof StoreUnavailable ? rejoinMs : maxPoisonMs;
    }
  }

  /** Until the store takes it, or somebody else has it; a session that we kept would be driven by nobody. */
  async #giveBack(stream: string, driver: Driver, delayMs: number): Promise<void> {
    while (!this.#isStopped) {
      try {
        await driver.putAside(this.#options.nowMs() + delayMs);
        return;
      } catch (error) {
        this.#complain(error, stream);
        await sleep(rejoinMs);
      }
    }
  }

  /** What a claim without an answer gave us is driven by nobody: all that bears our name is freed and claimed again. */
  async #rejoin(): Promise<void> {
    this.#abandonAll();
    for (let isBack = false; !isBack; ) {
      await this.#leave();
      await sleep(rejoinMs);
      if (this.#isStopped) return;
      try {
        await this.#join();
        isBack = true;
      } catch (error) {
        this.#complain(error, null);
      }
    }
    this.#claimAgain = true;
  }

  /** A listener that throws has nobody left to tell, and must not take the process with it. */
  #complain(error: unknown, stream: string | null): void {
    try {
      this.#options.onError(error, stream);
    } catch {}
  }
}
