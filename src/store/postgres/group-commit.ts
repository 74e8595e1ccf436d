/**
 * Client-side group commit: while two statements are under way, whatever arrives forms the next one. A stream is in one
 * statement at a time, its appends in the order in which they came.
 *
 * Promises kept here
 * - L2: an append is answered only by what was read from, or committed to, the database.
 * - L8: what fails alone fails alone: appends that failed together are tried one by one. An append whose reply was lost
 *   is looked for by its event before it is written again; where the database stays away it is `StoreUnavailable`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import type { TextAppend } from '../as-text.ts';
import type { AppendResult, Touched } from '../store.ts';
import { StoreUnavailable } from '../store.ts';
import { appendAlone } from './append/alone.ts';
import { lookUp } from './append/lookup.ts';
import { write } from './append/write.ts';
import type { Chain, Waiting } from './append.ts';
import { needsTransaction, plan } from './append.ts';
import type { Connection } from './connection/pool.ts';
import { texts } from './connection/values.ts';
import type { Database } from './database.ts';
import { errorOf, failureOf, sqlStateOf, sqlStates } from './failures.ts';
import { run } from './statements.ts';
import type { StreamRecord } from './streams.ts';
import { baseOf } from './streams.ts';

const maxStatements = 2;
const maxTransactions = 4;
const maxBatch = 512;
/** Beyond this a stream is written under a lock: others write to it all the time. */
const maxRaces = 3;
/** How long an append of unknown fate is looked for. */
const unsureForMs = 8_000;
const retryMs = 100;

type Groups = ReadonlyMap<string, Waiting[]>;

export class GroupCommit {
  readonly #database: Database;
  readonly #onCommit: (touched: Touched[]) => void;
  readonly #queues = new Map<string, Waiting[]>();
  readonly #busy = new Set<string>();
  #statements = 0;
  #transactions = 0;
  #isScheduled = false;

  constructor(database: Database, onCommit: (touched: Touched[]) => void) {
    this.#database = database;
    this.#onCommit = onCommit;
  }

  append(request: TextAppend): Promise<AppendResult> {
    const { promise, resolve, reject } = Promise.withResolvers<AppendResult>();
    const waiting: Waiting = {
      request,
      nowMs: this.#database.nowMs(),
      resolve,
      reject,
      isAnswered: false,
      attempts: 0,
      isAlone: false,
      unsureUntilMs: null,
    };
    const queue = this.#queues.get(request.stream);
    if (queue === undefined) this.#queues.set(request.stream, [waiting]);
    else queue.push(waiting);
    this.#pumpSoon();
    return promise;
  }

  /** After the turn of the event loop, so that what is asked in one turn travels together. */
  #pumpSoon(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    const batch = new Map<string, Waiting[]>();
    let size = 0;
    for (const [stream, queue] of this.#queues) {
      const [first] = queue;
      if (first === undefined || this.#busy.has(stream)) continue;
      if (needsTransaction(first)) {
        if (this.#transactions < maxTransactions) void this.#transact(stream, this.#take(stream, 1));
      } else if (this.#statements < maxStatements && size < maxBatch) {
        const most = queue.findIndex(needsTransaction);
        const taken = this.#take(stream, Math.min(most === -1 ? queue.length : most, maxBatch - size));
        batch.set(stream, taken);
        size += taken.length;
      }
    }
    if (batch.size > 0) void this.#state(batch);
  }

  #take(stream: string, most: number): Waiting[] {
    const queue = this.#queues.get(stream) ?? [];
    this.#busy.add(stream);
    const taken = queue.splice(0, most);
    if (queue.length === 0) this.#queues.delete(stream);
    return taken;
  }

  /** What has no answer yet goes back to the front, in its order. */
  #giveBack(groups: Groups): void {
    for (const [stream, group] of groups) {
      this.#busy.delete(stream);
      const open = group.filter(({ isAnswered }) => !isAnswered);
      if (open.length > 0) this.#queues.set(stream, [...open, ...(this.#queues.get(stream) ?? [])]);
    }
    this.#pump();
  }

  async #state(groups: Groups): Promise<void> {
    this.#statements += 1;
    try {
      await this.#database.pool.use((connection) => this.#attempt(connection, groups));
    } catch (error) {
      await this.#recover([...groups.values()].flat(), error);
    } finally {
      this.#statements -= 1;
      this.#giveBack(groups);
    }
  }

  async #attempt(connection: Connection, groups: Groups): Promise<void> {
    const { bases } = this.#database;
    const stale: string[] = [];
    const chains: Chain[] = [];
    for (const [stream, group] of groups) {
      const base = bases.get(stream);
      const isRemembered =
        base !== undefined && group.every((one) => one.unsureUntilMs === null && one.attempts === 0);
      const planned = isRemembered ? plan(base, group, null, this.#database.summarize) : null;
      if (planned === null) stale.push(stream);
      else this.#answer(planned, chains);
    }
    if (stale.length > 0) await this.#readAndPlan(connection, groups, stale, chains);
    if (chains.length === 0) return;
    if (failpoints.on) await failpoint('store.before-commit');
    const written = await write(connection, chains);
    if (failpoints.on) await failpoint('store.after-commit');
    const touched: Touched[] = [];
    for (const chain of chains) {
      const { stream } = chain.base;
      if (written.has(stream)) {
        bases.set(stream, chain.after);
        for (const { waiting, ...place } of chain.parts) settle(waiting, { status: 'ok', ...place });
        const isOwners = chain.parts.every(({ waiting }) => waiting.request.fence !== undefined);
        touched.push({ stream, head: chain.after.head, isOwners });
      } else {
        bases.delete(stream);
        for (const { waiting } of chain.parts) this.#raced(waiting);
      }
    }
    if (touched.length > 0) this.#onCommit(touched);
  }

  async #readAndPlan(
    connection: Connection,
    groups: Groups,
    stale: readonly string[],
    chains: Chain[],
  ): Promise<void> {
    const { keys, bases, summarize } = this.#database;
    const waiting = stale.flatMap((stream) => groups.get(stream) ?? []);
    // Rows first: an append that is committed in between then shows as a moved row, never as a key that is missing.
    const records = await run<StreamRecord>(connection, 'streamsNamed', [texts(stale)]);
    const found = await lookUp(connection, waiting);
    // Written by an earlier try, and maybe on no standby yet: saying so waits for that as the first answer would have.
    if (found.requests.size > 0 || found.events.size > 0) await run(connection, 'confirm', [texts(stale)]);
    const byStream = new Map(records.map((record) => [record.stream, baseOf(keys, record)]));
    for (const stream of stale) {
      const base = byStream.get(stream) ?? null;
      if (base !== null && base.erasedAt === null) bases.set(stream, base);
      const planned = plan(base, groups.get(stream) ?? [], found, summarize);
      if (planned !== null) this.#answer(planned, chains);
    }
  }

  #answer(planned: NonNullable<ReturnType<typeof plan>>, chains: Chain[]): void {
    for (const { waiting, result } of planned.answers) settle(waiting, result);
    for (const { waiting, error } of planned.failures) fail(waiting, toError(error));
    if (planned.chain !== null) chains.push(planned.chain);
  }

  #raced(waiting: Waiting): void {
    waiting.attempts += 1;
    if (waiting.attempts >= maxRaces) waiting.isAlone = true;
  }

  async #transact(stream: string, group: Waiting[]): Promise<void> {
    this.#transactions += 1;
    try {
      const [waiting] = group;
      if (waiting !== undefined) await this.#attemptAlone(stream, waiting);
    } catch (error) {
      await this.#recover(group, error);
    } finally {
      this.#transactions -= 1;
      this.#giveBack(new Map([[stream, group]]));
    }
  }

  async #attemptAlone(stream: string, waiting: Waiting): Promise<void> {
    const { bases, keys } = this.#database;
    bases.delete(stream);
    const ending = await appendAlone(this.#database, waiting);
    if (failpoints.on) await failpoint('store.after-commit');
    if (ending === 'again') return this.#raced(waiting);
    if (waiting.request.eraseStream && ending.result.status === 'ok') keys.forget(stream);
    if (ending.after !== null) bases.set(stream, ending.after);
    settle(waiting, ending.result);
    if (ending.result.status === 'ok') this.#onCommit([{ stream, head: ending.result.head }]);
  }

  /** After a failure: who is told, who is tried again alone, who is looked for. */
  async #recover(group: readonly Waiting[], error: unknown): Promise<void> {
    const open = group.filter(({ isAnswered }) => !isAnswered);
    for (const { request } of open) this.#database.bases.delete(request.stream);
    const failure = failureOf(error);
    const isRace =
      sqlStateOf(error) === sqlStates.deadlock || sqlStateOf(error) === sqlStates.serializationFailure;
    const nowMs = performance.now();
    let isWaiting = false;
    for (const waiting of open) {
      if (failure.isUnsure) waiting.unsureUntilMs ??= nowMs + unsureForMs;
      if (waiting.unsureUntilMs !== null && failure.kind === 'unavailable') {
        if (nowMs >= waiting.unsureUntilMs || !canBeFound(waiting)) fail(waiting, errorOf(failure));
        else isWaiting = true;
      } else if (isRace && waiting.attempts < 2 * maxRaces) this.#raced(waiting);
      else if (open.length > 1 && !(error instanceof StoreUnavailable)) waiting.isAlone = true;
      else fail(waiting, failure.kind === 'bug' ? toError(error) : errorOf(failure));
    }
    // The streams stay busy meanwhile, so that nothing overtakes.
    if (isWaiting) await sleep(retryMs);
  }
}

/** By its first event or its request; an append without either cannot be told from one that never was. */
function canBeFound({ request }: Waiting): boolean {
  return request.events.length > 0 || request.request !== undefined;
}

function settle(waiting: Waiting, result: AppendResult): void {
  waiting.isAnswered = true;
  waiting.resolve(result);
}

function fail(waiting: Waiting, error: Error): void {
  waiting.isAnswered = true;
  waiting.reject(error);
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
