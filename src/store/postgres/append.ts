/**
 * From appends to rows. What an append needs to know of its stream (head, last time, summary, key) was read before; the
 * statement that writes carries it along as a condition, on the row it has locked: where the stream has moved on,
 * nothing of that stream is written, and the caller reads again. One statement writes many streams, each or not each.
 *
 * Promises kept here
 * - L3: fence, expected sequence and request key are checked by the statement that writes.
 * - L1, G3, G4: events, summary, request, reservation, outbox and leaf hashes are in one statement.
 */
import type { Earlier } from '../admission.ts';
import { refusalOf } from '../admission.ts';
import type { TextAppend } from '../as-text.ts';
import type { EventRow } from '../event-rows.ts';
import { sealEvents } from '../event-rows.ts';
import type { AppendResult, Summarize } from '../store.ts';
import { touchesResources } from './resources.ts';
import type { Base } from './streams.ts';

/** An append on its way, until it has an answer. */
export type Waiting = {
  request: TextAppend;
  nowMs: number;
  resolve(result: AppendResult): void;
  reject(error: Error): void;
  isAnswered: boolean;
  /** How often it was tried and met a stream that had moved on. */
  attempts: number;
  /** A try of it failed alone or with others for a reason of its own or theirs: it is tried alone. */
  isAlone: boolean;
  /** A commit of it may have happened unheard; when to stop asking. */
  unsureUntilMs: number | null;
};

/** What was read of the database for the streams of a batch. */
export type Found = {
  /** By stream and request key. */
  requests: ReadonlyMap<string, Earlier>;
  /** By stream and id: the first events of appends that may have been committed before. */
  events: ReadonlyMap<string, { seq: number; time: string }>;
  /** Reservations that are open, of those that are to be settled. */
  open: ReadonlySet<string>;
};

export function pairOf(stream: string, name: string): string {
  return `${stream}\0${name}`;
}

type Part = { waiting: Waiting; firstSeq: number; head: number; time: string };

/** Appends to one stream that are written together, one after the other. */
export type Chain = {
  base: Base;
  parts: Part[];
  rows: EventRow[];
  /** The stream after them. */
  after: Base;
  fence: number | null;
  wakeAt: number | null;
};

export type Plan = {
  answers: { waiting: Waiting; result: AppendResult }[];
  failures: { waiting: Waiting; error: unknown }[];
  chain: Chain | null;
  /** For a later turn: their answer depends on whether the chain before them is written. */
  rest: Waiting[];
};

/** What is not one stream's rows alone needs a transaction of several statements. */
export function needsTransaction({ request, isAlone }: Waiting): boolean {
  return isAlone || request.create === true || request.eraseStream === true || touchesResources(request);
}

/**
 * Decides a stream's appends in order. `found` is null where `base` is remembered and not just read: then nobody can be
 * refused, and the plan is null: read, and plan again.
 */
export function plan(
  base: Base | null,
  queue: readonly Waiting[],
  found: Found | null,
  summarize: Summarize,
): Plan | null {
  const made: Plan = { answers: [], failures: [], chain: null, rest: [] };
  for (const [index, waiting] of queue.entries()) {
    const { request } = waiting;
    if (made.chain !== null && dependsOn(made.chain, request)) return withRest(made, queue, index);
    const done = committedBefore(waiting, found);
    const state = made.chain?.after ?? base;
    const result =
      done ??
      refusalOf(
        request,
        state,
        () => found?.requests.get(pairOf(request.stream, request.request?.key ?? '')) ?? null,
      );
    if (result !== null) {
      if (made.chain !== null) return withRest(made, queue, index);
      if (found === null) return null;
      made.answers.push({ waiting, result });
      continue;
    }
    try {
      if (state?.key == null) throw new Error(`${request.stream} has no key`);
      if (found !== null) checkSettled(request, found);
      made.chain = extend(made.chain, state, waiting, summarize);
    } catch (error) {
      made.failures.push({ waiting, error });
    }
  }
  return made;
}

function withRest(made: Plan, queue: readonly Waiting[], from: number): Plan {
  return { ...made, rest: queue.slice(from) };
}

/** What only the database can answer once the chain is written. */
function dependsOn({ parts }: Chain, request: TextAppend): boolean {
  return parts.some(({ waiting }) => {
    const before = waiting.request;
    const isSameKey = request.request !== undefined && before.request?.key === request.request.key;
    return (
      isSameKey || (request.reservation !== undefined && before.reservation?.id === request.reservation.id)
    );
  });
}

/** The reply to an earlier try was lost on the way; its first event, which nobody else has, says that it was written. */
export function committedBefore(
  { request, unsureUntilMs }: Waiting,
  found: Found | null,
): AppendResult | null {
  const [first] = request.events;
  if (unsureUntilMs === null || found === null || first === undefined) return null;
  const event = found.events.get(pairOf(request.stream, first.id));
  if (event === undefined) return null;
  return { status: 'ok', firstSeq: event.seq, head: event.seq + request.events.length - 1, time: event.time };
}

function checkSettled({ reservation }: TextAppend, found: Found): void {
  if (reservation?.op !== 'settle' || found.open.has(reservation.id)) return;
  throw new Error(`there is no open reservation ${reservation.id} to settle`);
}

function extend(chain: Chain | null, state: Base, waiting: Waiting, summarize: Summarize): Chain {
  const { request } = waiting;
  if (state.key === null) throw new Error(`${request.stream} has no key`);
  const timeMs = Math.max(Math.floor(waiting.nowMs), state.lastTimeMs);
  const time = new Date(timeMs).toISOString();
  const { key, head, summary } = state;
  const sealed = sealEvents(request, { key, head, time, summary, summarize });
  const after = { ...state, head: head + sealed.rows.length, lastTimeMs: timeMs, summary: sealed.summary };
  const part = { waiting, firstSeq: head + 1, head: after.head, time };
  if (chain === null) {
    return {
      base: state,
      parts: [part],
      rows: sealed.rows,
      after,
      fence: request.fence ?? null,
      wakeAt: request.wakeAt ?? null,
    };
  }
  chain.parts.push(part);
  chain.rows.push(...sealed.rows);
  chain.after = after;
  chain.fence ??= request.fence ?? null;
  if (request.wakeAt !== undefined) chain.wakeAt = Math.min(chain.wakeAt ?? request.wakeAt, request.wakeAt);
  return chain;
}
