/**
 * What of a recorded log must come out the same for ever, and how it is taken. The state is compared in the members that
 * it had when it was recorded: a later version may know more of a session, and nothing else.
 */
import { createHash } from 'node:crypto';
import { foldStored } from '../../src/engine/folded-sessions.ts';
import { replaySession } from '../../src/engine/replay.ts';
import { createOpenAiResponses } from '../../src/model/openai-responses/index.ts';
import type { Json, JsonObject } from '../../src/protocol/json.ts';
import { canonicalJson } from '../../src/protocol/json.ts';
import { decide } from '../../src/session/decide.ts';
import type { SessionState } from '../../src/session/state.ts';
import { initialState } from '../../src/session/state.ts';
import { summarize } from '../../src/session/summary.ts';
import type { StoredEvent } from '../../src/store/store.ts';

export type Expectation = {
  events: number;
  /** Of the canonical JSON of `state`. */
  stateSha256: string;
  /** sha256 of every model request, in order: what was sent, and what is derived. */
  requests: string[];
  /** As the store kept it; null for a deleted session. */
  summary: JsonObject | null;
  state: JsonObject;
  /** What each event changed in the state. */
  steps: JsonObject[];
};

/** The state as JSON. */
export function stateOf(log: StoredEvent[]): JsonObject {
  return jsonOf(log.reduce(foldStored, initialState));
}

/**
 * What each event changed: the state after every prefix of the log, as an engine finds it that takes over there. The
 * history is left out but for its length; that it is right, the requests say.
 */
export function stepsOf(log: StoredEvent[]): JsonObject[] {
  let state: SessionState = initialState;
  let before: JsonObject = {};
  return log.map((event) => {
    state = foldStored(state, event);
    decide(state);
    const after: JsonObject = {
      ...jsonOf({ ...state, history: initialState.history }),
      history: state.history.length,
    };
    const changed = Object.keys(after).filter(
      (name) => canonicalJson(after[name] as Json) !== canonicalJson(before[name] ?? ''),
    );
    before = after;
    return Object.fromEntries(changed.map((name) => [name, after[name] as Json]));
  });
}

/** The states that steps lead through. */
export function statesAlong(steps: JsonObject[]): JsonObject[] {
  let state: JsonObject = {};
  return steps.map((step) => {
    state = { ...state, ...step };
    return state;
  });
}

function jsonOf(state: SessionState): JsonObject {
  return JSON.parse(JSON.stringify({ ...state, history: state.history.toArray() })) as JsonObject;
}

export function summaryOf(log: StoredEvent[]): JsonObject | null {
  // A deleted session has no row to show, and nothing to make one of.
  if (log.some((event) => event.erased)) return null;
  return log.reduce<JsonObject | null>(summarize, null);
}

export function sha256Of(value: Json): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

export function recordedRequests(log: StoredEvent[]): string[] {
  const intents = log.filter((event) => event.type === 'model.intent' && !event.erased);
  return intents.map((event) => String(event.private?.requestSha256));
}

const renderer = createOpenAiResponses({ apiKey: 'never sent' });

export function replay(log: StoredEvent[]) {
  const read = async (_stream: string, after: number, limit: number) =>
    log.filter((event) => event.seq > after).slice(0, limit);
  return replaySession({ read }, log[0]?.stream ?? '', () => renderer);
}

/** What `now` has of the members that `then` had. */
export function shapedAs(then: Json, now: Json): Json {
  if (Array.isArray(then) && Array.isArray(now))
    return now.map((item, index) => (index < then.length ? shapedAs(then[index] as Json, item) : item));
  if (!isObject(then) || !isObject(now)) return now;
  const known = Object.keys(now).filter((name) => Object.hasOwn(then, name));
  return Object.fromEntries(known.map((name) => [name, shapedAs(then[name] as Json, now[name] as Json)]));
}

function isObject(value: Json): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
