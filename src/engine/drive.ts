/**
 * Drives one claimed session until it rests: fold, decide, commit, act, and again.
 *
 * - L3: every append carries the fence and the sequence that was folded. `moved` folds what came in between and decides
 *   anew; facts of acts are kept, decisions are not. `fenced` lets go at once.
 * - L5: an act begins only after the append that holds its intent has succeeded.
 * - L8: when the store fails, the turn stops here with nothing lost; a later claim goes on.
 * - What a fact entails is committed with the fact: one append from a tool's result to the next model intent.
 */

import { failpoint, failpoints } from '../protocol/failpoint.ts';
import { decide, isAct } from '../session/decide.ts';
import type { Draft, Stored } from '../session/events.ts';
import { fold } from '../session/fold.ts';
import type { SessionState } from '../session/state.ts';
import type { AppendResult, Claim, Store, StoredEvent } from '../store/store.ts';
import type { Acts, Facts, Started } from './acts.ts';
import { type FoldedSessions, foldStored } from './folded-sessions.ts';
import { giveUp } from './give-up.ts';
import type { Shell } from './realize.ts';
import { realize } from './realize.ts';

export type DriveEnd = 'rested' | 'fenced' | 'stopped';

/** Facts of an act that goes on, which may want to hear that they are durable. */
type Emitted = Facts & { onSettled?(isDurable: boolean): void };

type Plan = {
  events: Draft[];
  state: SessionState;
  starts: Started[];
  settled: Facts['settled'];
  reserved: string | null;
  /**
   * There is more to plan once this is appended: a model call that is due while this settles another (two acts of the
   * ledger are two appends), or a turn that may begin while a checkpoint is made.
   */
  isMoreDue: boolean;
};

/** Records that follow from each other without any act are few; more is a loop in `decide`. */
const maxRecordsPerPlan = 1_000;
const readBatch = 1_000;

export class Driver {
  #state: SessionState;
  #snapshotSeq = 0;
  #facts: Emitted[] = [];
  /** The newest sequence that we know to exist; beyond what is folded, there is something to read. */
  #head: number;
  #stopped = false;
  #isAbandoned = false;
  #isDraining = false;
  /** Acts begun whose facts are still to come. */
  #performing = 0;
  #failure: { error: unknown } | null = null;
  #wake: (() => void) | null = null;
  #isOver = false;
  #hasAdvanced = false;
  readonly #claim: Claim;
  readonly #store: Store;
  readonly #folded: FoldedSessions;
  readonly #shell: Shell;
  readonly #acts: Acts;

  constructor(claim: Claim, store: Store, folded: FoldedSessions, shell: Shell, acts: Acts) {
    this.#claim = claim;
    this.#folded = folded;
    this.#state = folded.known(claim.stream);
    this.#head = claim.head;
    this.#store = store;
    this.#shell = shell;
    this.#acts = acts;
  }

  /** Something was appended to the stream, by whomever. */
  hint(head: number): void {
    this.#head = Math.max(this.#head, head);
    this.#wake?.();
  }

  /** Begins nothing new and lets go; what runs in the host goes on there for the next owner. */
  stop(): void {
    this.#stopped = true;
    this.#wake?.();
  }

  /** Lets go as soon as no model is in the middle of a sentence. */
  drain(): void {
    this.#isDraining = true;
    this.#wake?.();
  }

  /** Nothing is being said, and what was said is in the log. */
  #isDrained(): boolean {
    return this.#isDraining && !this.#acts.isModelUnderWay && this.#facts.length === 0;
  }

  /** Lets go without a word: the claim is void, or soon will be. */
  abandon(): void {
    this.#isAbandoned = true;
    this.#wake?.();
  }

  /** Rejects with `StoreUnavailable` (L8) or a bug; acts under way are abandoned either way. */
  async run(): Promise<DriveEnd> {
    try {
      return await this.#loop();
    } finally {
      this.#isOver = true;
      for (const { onSettled } of this.#facts.splice(0)) onSettled?.(false);
      this.#acts.abandon();
      this.#folded.learn(this.#claim.stream, this.#state);
    }
  }

  async #loop(): Promise<DriveEnd> {
    const recalled = await this.#folded.recall(this.#claim.stream, this.#head);
    this.#state = recalled.state;
    this.#snapshotSeq = recalled.snapshotSeq;
    if (this.#state.seq > 0) this.#shell.onFolded?.(this.#state);
    for (;;) {
      if (this.#isAbandoned) return 'fenced';
      if (this.#failure) throw this.#failure.error;
      if (this.#head > this.#state.seq) await this.#catchUp();
      if (this.#stopped || this.#isDrained()) {
        await this.putAside(this.#shell.nowMs());
        return 'stopped';
      }
      const committed = await this.#commit();
      if (committed === 'fenced') return 'fenced';
      if (committed === 'again') continue;
      if (this.#performing === 0 && this.#facts.length === 0) {
        if (failpoints.on) await failpoint('engine.before-release');
        const released = await this.#store.release(
          this.#claim.stream,
          this.#claim.fence,
          this.#state.seq,
          this.#wakeAt(),
        );
        if (released === 'ok') {
          this.#folded.rested(this.#claim.stream, { state: this.#state, snapshotSeq: this.#snapshotSeq });
          return 'rested';
        }
        if (released === 'fenced') return 'fenced';
        await this.#catchUp();
        continue;
      }
      await this.#something();
    }
  }

  /**
   * Whether an act came to its end under this driver, and that is in the log. What is written because an act is begun,
   * or begun again, is no progress: a driver that fails at every act writes it every time.
   */
  get hasAdvanced(): boolean {
    return this.#hasAdvanced;
  }

  /** Ends a turn that the engine cannot go on with, saying why, and what it still runs; false where there is nothing that could be ended. */
  async giveUp(message: string): Promise<boolean> {
    for (;;) {
      await this.#catchUp();
      const facts = giveUp(this.#state, this.#shell, message);
      if (facts === null) return false;
      const plan = planFrom(this.#state);
      addFacts(plan, facts);
      const begun = this.#state.calls.filter(({ outcome, isIntended }) => outcome === null && isIntended);
      const { status } = await this.#append(plan);
      if (status === 'ok') {
        this.#state = plan.state;
        await this.#acts.terminate(begun.map(({ id }) => id));
      }
      if (status !== 'moved') return status === 'ok';
    }
  }

  /** Gives the session back unfinished, to be claimed again from `wakeAtMs` on. */
  async putAside(wakeAtMs: number): Promise<void> {
    const { organization, project, stream, fence } = this.#claim;
    for (;;) {
      // Not the head that we folded: a log that cannot be folded could never be put aside. Whoever comes next reads it all.
      const row = await this.#store.stream({ organization, project }, stream);
      if (!row || (await this.#store.release(stream, fence, row.head, wakeAtMs)) !== 'moved') return;
    }
  }

  async #catchUp(): Promise<void> {
    for (;;) {
      const batch = await this.#store.read(this.#claim.stream, this.#state.seq, readBatch);
      for (const event of batch) this.#state = foldStored(this.#state, event);
      if (batch.length < readBatch) break;
    }
    this.#head = Math.max(this.#head, this.#state.seq);
    this.#shell.onFolded?.(this.#state);
    if (failpoints.on) await failpoint('engine.after-fold');
  }

  async #commit(): Promise<'ok' | 'again' | 'fenced'> {
    const taken = this.#facts.length;
    const plan = this.#plan(this.#facts);
    if (plan.events.length > 0) {
      if (failpoints.on && taken > 0) await failpoint('engine.before-result-append');
      const result = await this.#append(plan);
      if (result.status === 'fenced') return 'fenced';
      if (result.status === 'moved') {
        this.#head = result.head;
        return 'again';
      }
      // Deleted from under us: there is nothing left to drive.
      if (result.status === 'conflict' && result.reason === 'missing') return 'fenced';
      if (result.status !== 'ok') throw new Error(`append refused: ${JSON.stringify(result)}`);
      this.#state = plan.state;
      for (const { onSettled } of this.#facts.splice(0, taken)) {
        // What an act emits on its way is heard by it; its end is heard by nobody.
        if (onSettled === undefined) this.#hasAdvanced = true;
        onSettled?.(true);
      }
      if (failpoints.on && taken > 0) await failpoint('engine.after-result-append');
      if (failpoints.on && plan.starts.length > 0) await failpoint('engine.after-intent-append');
    }
    for (const start of plan.starts) this.#start(start);
    return plan.isMoreDue ? 'again' : 'ok';
  }

  /** Facts, what follows from them, and the intents of the acts that come next: one append. */
  #plan(facts: Facts[]): Plan {
    const plan = planFrom(this.#state);
    for (const fact of facts) addFacts(plan, fact);
    for (let guard = 0; this.#planRecord(plan); guard++) {
      if (guard > maxRecordsPerPlan) throw new Error('decide does not settle');
    }
    return plan;
  }

  /** One record, or all acts; false when only acts under way are left. */
  #planRecord(plan: Plan): boolean {
    const effects = decide(plan.state);
    const first = effects[0];
    if (first && !isAct(first)) {
      addFacts(plan, { drafts: realize(first, plan.state, this.#shell) });
      return true;
    }
    for (const effect of effects) {
      if (!isAct(effect)) continue;
      if (effect.type === 'call_model' && plan.settled) {
        plan.isMoreDue = true;
        return false;
      }
      const prepared = this.#acts.prepare(effect, plan.state);
      if (!prepared) continue;
      if ('facts' in prepared) {
        addFacts(plan, prepared.facts);
        return true;
      }
      addFacts(plan, { drafts: prepared.start.intents });
      plan.reserved = prepared.start.reserves ?? plan.reserved;
      plan.starts.push(prepared.start);
      if (effect.type === 'checkpoint') plan.isMoreDue = true;
    }
    return false;
  }

  #append(plan: Plan): Promise<AppendResult> {
    const { organization, project, stream, fence } = this.#claim;
    const ledger = plan.settled
      ? { reservation: { op: 'settle' as const, ...plan.settled } }
      : plan.reserved
        ? { reservation: { op: 'reserve' as const, id: plan.reserved, amountMicros: null } }
        : {};
    return this.#store.append({
      organization,
      project,
      stream,
      fence,
      expectedSeq: this.#state.seq,
      events: plan.events.map(asNew),
      ...ledger,
    });
  }

  /** Resolves once the facts are in the log: true, or false where they never will be. */
  #emit(drafts: Draft[]): Promise<boolean> {
    if (this.#isOver) return Promise.resolve(false);
    return new Promise((onSettled) => {
      this.#facts.push({ drafts, onSettled });
      this.#wake?.();
    });
  }

  #start(started: Started): void {
    this.#performing++;
    started
      .perform(this.#state, (drafts) => this.#emit(drafts))
      .then((facts) => facts && this.#facts.push(facts))
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        // Not before its facts are among ours: a plan made in between would find the call open and nobody at it.
        started.ended();
        this.#performing--;
        this.#wake?.();
      });
  }

  #wakeAt(): number | null {
    const wait = decide(this.#state).find((effect) => effect.type === 'wait');
    return wait ? Date.parse(wait.until) : null;
  }

  /** Until a fact, a hint, a failure or a stop. */
  async #something(): Promise<void> {
    const hasMore = this.#head > this.#state.seq || this.#facts.length > 0;
    if (hasMore || this.#stopped || this.#isAbandoned || this.#failure) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
  }
}

function planFrom(state: SessionState): Plan {
  return { events: [], state, starts: [], settled: undefined, reserved: null, isMoreDue: false };
}

function addFacts(plan: Plan, facts: Facts): void {
  for (const event of facts.drafts) {
    plan.events.push(event);
    plan.state = fold(plan.state, { ...event, seq: plan.state.seq + 1 });
  }
  plan.settled = facts.settled ?? plan.settled;
}

/** The store is ours and reads no payloads; here they get their types back. */
export function asStored(event: StoredEvent): Stored {
  return event as unknown as Stored;
}

export function asNew(event: Draft) {
  return event as unknown as Parameters<Store['append']>[0]['events'][number];
}
