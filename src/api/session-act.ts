/**
 * Acts on one session: found within the caller's tenant, decided on the folded log, appended where the log still is what
 * was folded (L3), once per request key.
 *
 * An act that lost the race against another append decides again; what it then finds may refuse it.
 */
import type { Problem } from '../protocol/errors.ts';
import { isProblem, problem } from '../protocol/errors.ts';
import { failpoint, failpoints, sabotaged } from '../protocol/failpoint.ts';
import { isId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Audience, DraftOf, EventBodies, EventType } from '../session/events.ts';
import type { SessionState } from '../session/state.ts';
import { isBlocked } from '../session/state.ts';
import type { SessionSummary } from '../session/summary.ts';
import { summarize } from '../session/summary.ts';
import type { Append, NewEvent, Store, StreamRow } from '../store/store.ts';
import type { Viewed } from './event-view.ts';
import type { Answer, Call, Incoming } from './operation.ts';
import type { MintId } from './request-key.ts';
import { keyReused, minterOf } from './request-key.ts';

export type FoundSession = { id: string; row: StreamRow; summary: SessionSummary };

/** The session of the path, if it is the caller's and still there. */
export async function findSession(incoming: Incoming): Promise<FoundSession | Problem> {
  const id = incoming.params.session_id ?? '';
  const missing = problem('not_found', `There is no session ${id}.`);
  // Streams of other kinds have ids of other forms.
  if (!isId('session', id)) return missing;
  const row = await incoming.deps.store.stream(incoming.principal.tenant, id);
  if (!row || row.erased || row.summary === null) return missing;
  const summary = row.summary as unknown as SessionSummary;
  return summary.deleted ? missing : { id, row, summary };
}

export type SessionChange = {
  events: NewEvent[];
  extra?: Pick<Append, 'resources' | 'deleteResources' | 'eraseStream' | 'outbox'>;
};

export type SessionAct = {
  /** Decides on the log as it is; null changes nothing. */
  prepare(
    found: FoundSession,
    state: SessionState,
    mint: MintId,
  ): Promise<SessionChange | Problem> | SessionChange | Problem;
  /** The answer, from the act's own events and the summary at its end: the same for the first request and a repeat. */
  answer(
    session: string,
    events: Viewed[],
    summary: () => Promise<SessionSummary>,
  ): Promise<JsonObject> | JsonObject;
};

/** Rounds against a busy session; each means somebody else's append went through. */
const maxRounds = 64;

export async function actOnSession(call: Call<unknown, unknown>, act: SessionAct): Promise<Answer> {
  const { deps, folded, principal } = call;
  const id = call.params.session_id ?? '';
  const earlier = await replay(call, id, act);
  if (earlier) return earlier;
  const mint = minterOf(call.key, deps.now());
  for (let round = 0; round < maxRounds; round++) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const state = await folded.fold(id);
    const change = await act.prepare(found, state, mint);
    if (isProblem(change)) return change;
    if (failpoints.on && sabotaged('sabotage.acknowledge-unwritten'))
      return { body: await act.answer(id, asOf(change.events, deps.now()), async () => found.summary) };
    if (change.events.length === 0 && call.key === null) {
      return { body: await act.answer(id, [], async () => found.summary) };
    }
    if (failpoints.on) await failpoint('api.before-input-append');
    const result = await deps.store.append({
      ...principal.tenant,
      stream: id,
      expectedSeq: state.seq,
      ...(call.key ? { request: call.key.request } : {}),
      events: change.events,
      ...(change.events.length > 0 ? { wakeAt: deps.now() } : {}),
      ...change.extra,
    });
    if (failpoints.on) await failpoint('api.after-input-append');
    if (result.status === 'ok') {
      const events = change.events.map((event) => ({ ...event, time: result.time }));
      return { body: await act.answer(id, events, () => freshSummary(call, id, result.head)) };
    }
    if (result.status === 'conflict' && result.reason === 'missing')
      return problem('not_found', `There is no session ${id}.`);
    if (result.status === 'duplicate' || result.status === 'conflict') {
      return (
        (await replay(call, id, act)) ??
        problem('unavailable', 'The change could not be recorded. Try again.')
      );
    }
  }
  return problem('contended', 'The session is changing too fast. Nothing was done; try again.');
}

/** For a sabotage only: the answer to an act that was not written. */
function asOf(events: NewEvent[], nowMs: number): Viewed[] {
  return events.map((event) => ({ ...event, time: new Date(nowMs).toISOString() }));
}

/** What an earlier request with this key did; null where there was none. Nothing is ever written by asking. */
async function replay(call: Call<unknown, unknown>, id: string, act: SessionAct): Promise<Answer | null> {
  if (call.key === null) return null;
  // No log has this head, so an unknown key finds `moved` (or no stream) and leaves no trace.
  const probe = await call.deps.store.append({
    ...call.principal.tenant,
    stream: id,
    expectedSeq: -1,
    request: call.key.request,
    events: [],
  });
  if (probe.status === 'conflict' && probe.reason === 'request') return keyReused;
  if (probe.status !== 'duplicate') return null;
  const { store } = call.deps;
  const count = probe.head - probe.firstSeq + 1;
  const events = count === 0 ? [] : await store.read(id, probe.firstSeq - 1, count);
  // Deleted since, its content is gone; only the deletion itself can still be told.
  const row = await store.stream(call.principal.tenant, id);
  if (row?.erased && !events.some((event) => event.type === 'session.deleted'))
    return problem('not_found', `There is no session ${id}.`);
  return { body: await act.answer(id, events, () => summaryAt(store, id, probe.head)) };
}

/** Right after an append: the store has it, unless somebody appended since. */
async function freshSummary(call: Call<unknown, unknown>, id: string, head: number): Promise<SessionSummary> {
  const row = await call.deps.store.stream(call.principal.tenant, id);
  if (row?.head === head && row.summary !== null) return row.summary as unknown as SessionSummary;
  return summaryAt(call.deps.store, id, head);
}

const emptySummary = summarize(null, {
  type: '',
  time: '',
  public: {},
  private: null,
}) as unknown as SessionSummary;

/** The summary as it was when the log ended at `seq`: reads all of it, so it is for repeated requests only. */
export async function summaryAt(store: Store, id: string, seq: number): Promise<SessionSummary> {
  let summary: JsonObject | null = null;
  for (let at = 0; at < seq; ) {
    const events = await store.read(id, at, Math.min(500, seq - at));
    if (events.length === 0) break;
    for (const event of events) summary = summarize(summary, event);
    at = events.at(-1)?.seq ?? seq;
  }
  return summary === null ? emptySummary : (summary as unknown as SessionSummary);
}

/** Whether the session works or is about to: archive and delete wait for its end (§4.4). */
export function isBusy(state: SessionState): boolean {
  if (state.status === 'running' || state.status === 'rescheduling') return true;
  if (state.status === 'terminated') return false;
  return state.queue.length > 0 || state.interrupts.length > 0 || (state.turn !== null && !isBlocked(state));
}

type DraftExtra = { id: string; actor: string; thread: string | null; audience?: Audience };

/** An event that comes from outside the engine. */
export function inputDraft<T extends EventType>(
  type: T,
  payload: EventBodies[T]['P'],
  hidden: EventBodies[T]['X'],
  { audience = 'public', ...extra }: DraftExtra,
): DraftOf<T> {
  return {
    ...extra,
    type,
    turn: null,
    call: null,
    causation: null,
    audience,
    public: payload,
    private: hidden,
  };
}

/** A draft as the store takes it. Payloads are JSON by construction: they were parsed from it. */
export function toNewEvent(draft: DraftOf<EventType>): NewEvent {
  return draft as unknown as NewEvent;
}
