/**
 * fold(state, event) → state: the only reading of a session's log (L1).
 *
 * - L7: pure; the same events give the same state, wherever and whenever they are folded.
 * - Tolerant: types it does not know and facts that no longer apply change nothing but `seq`, so any prefix of any
 *   log folds.
 * - L4: a call gets its first result; a second one changes nothing.
 */
import type { ContentBlock } from '../protocol/content.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Draft, EventBodies } from './events.ts';
import { applyCheckpoint, atRest, touched } from './fold-checkpoints.ts';
import type { HistoryItem, TokenUsage } from './model-request.ts';
import type { Call, NetworkAnswer, SessionState, Turn } from './state.ts';
import { initialState } from './state.ts';

/** An event with its place; all that fold needs of the envelope. */
export type Folded = Draft & { seq: number };

export function fold(state: SessionState, event: Folded): SessionState {
  const next = apply(state, event);
  return { ...next, seq: event.seq };
}

export function foldAll(events: Iterable<Folded>, from: SessionState = initialState): SessionState {
  let state = from;
  for (const event of events) state = fold(state, event);
  return state;
}

function apply(state: SessionState, event: Folded): SessionState {
  switch (event.type) {
    case 'session.created':
      return { ...state, config: event.private, title: event.public.title };
    case 'session.updated':
      return event.public.title === undefined ? state : { ...state, title: event.public.title };
    case 'session.status_running':
      return { ...state, status: 'running', stopReason: null, stopDetails: null };
    case 'session.status_idle': {
      const { stop_reason: stopReason, stop_details: stopDetails } = event.public;
      return atRest({ ...state, status: 'idle', stopReason, stopDetails }, event);
    }
    case 'session.status_rescheduled':
      return { ...state, status: 'rescheduling' };
    case 'session.status_terminated':
      return { ...state, status: 'terminated' };
    case 'session.archived':
      return { ...state, isArchived: true };
    case 'session.deleted':
      return { ...state, isDeleted: true };
    case 'sandbox.started':
      return {
        ...state,
        sandbox: {
          ...state.sandbox,
          ...{ isStarted: true, hostId: hostOf(state, event.public), diskDriver: driverOf(event.public) },
        },
      };
    case 'environment.build_finished':
      return { ...state, sandbox: { ...state.sandbox, layer: event.public.digest } };
    case 'sandbox.ready':
      return {
        ...touched(state),
        sandbox: {
          ...state.sandbox,
          isStarted: true,
          isReady: true,
          baseCommit: event.private?.baseCommit ?? null,
        },
      };
    default:
      return applyCheckpoint(state, event) ?? applyInput(state, event);
  }
}

/** Logs of before there were fleets name no host. */
function hostOf(state: SessionState, started: JsonObject): string | null {
  return typeof started.host === 'string' ? started.host : state.sandbox.hostId;
}

/** Null where the host does not say how it keeps disks. */
function driverOf({ disk }: JsonObject): string | null {
  const driver = typeof disk === 'object' && disk !== null && !Array.isArray(disk) ? disk.driver : null;
  return typeof driver === 'string' ? driver : null;
}

function applyInput(state: SessionState, event: Folded): SessionState {
  switch (event.type) {
    case 'user.message': {
      const { content, delivery = 'queue' } = event.public;
      return { ...state, queue: [...state.queue, { eventId: event.id, content, delivery }] };
    }
    case 'user.interrupt':
      return { ...state, interrupts: [...state.interrupts, event.id] };
    case 'user.tool_confirmation': {
      const { tool_use_id, result, deny_message } = event.public;
      return withCall(state, tool_use_id, (call) =>
        call.confirmation ? call : { ...call, confirmation: { result, message: deny_message ?? null } },
      );
    }
    case 'user.custom_tool_result': {
      const { custom_tool_use_id, content, is_error } = event.public;
      return resolve(state, custom_tool_use_id, content ?? [], is_error ?? false);
    }
    case 'user.network_access':
      return { ...state, networkAnswers: withAnswer(state.networkAnswers, event.public) };
    case 'input.processed': {
      const ids = new Set(event.public.event_ids);
      return { ...state, interrupts: state.interrupts.filter((id) => !ids.has(id)) };
    }
    default:
      return applyTurn(state, event);
  }
}

/** One a host and port: a session that is asked for days holds no more than it was asked about. */
function withAnswer(answers: readonly NetworkAnswer[], answer: NetworkAnswer): NetworkAnswer[] {
  const isOther = ({ host, port }: NetworkAnswer): boolean => host !== answer.host || port !== answer.port;
  return [...answers.filter(isOther), answer];
}

function applyTurn(state: SessionState, event: Folded): SessionState {
  switch (event.type) {
    case 'turn.started': {
      const turn: Turn = { ...freshTurn, id: event.public.turn_id };
      return takeMessages({ ...state, turn }, event.public.event_ids);
    }
    case 'turn.ended':
      return { ...state, turn: null, calls: [] };
    case 'timer.set':
      return withTurn(state, {
        retry: { timerId: event.public.timer_id, at: event.public.at },
        failure: null,
      });
    case 'timer.fired':
      return withTurn(state, { retry: null });
    default:
      return state.turn ? applyModel(state, state.turn, event) : state;
  }
}

/** Messages leave the queue and enter the history, in the order they came. */
export function takeMessages(state: SessionState, eventIds: readonly string[]): SessionState {
  const taken = state.queue.filter((message) => eventIds.includes(message.eventId));
  if (taken.length === 0) return state;
  const items = taken.map((message): HistoryItem => ({ type: 'user', content: message.content }));
  return {
    ...state,
    queue: state.queue.filter((message) => !eventIds.includes(message.eventId)),
    history: state.history.push(...items),
    turn: state.turn ? { ...state.turn, owesModel: true } : null,
  };
}

function applyModel(state: SessionState, turn: Turn, event: Folded): SessionState {
  switch (event.type) {
    case 'turn.steered':
      return takeMessages(state, event.public.event_ids);
    case 'model.intent': {
      const model = { callId: event.call ?? event.id, startId: event.public.model_request_start_id };
      return withTurn(state, { model, failure: null, retry: null });
    }
    case 'model.response':
      return applyResponse(state, turn, event.public.model_request_start_id, event.private);
    case 'model.failed':
      return applyFailure(state, turn, event.public, event.private);
    case 'agent.tool_use':
    case 'agent.custom_tool_use':
      return { ...state, calls: [...state.calls, callOf(state, event)] };
    case 'span.model_request_end':
      return applySpanEnd(state, event.public);
    case 'intent': {
      const { tool_use_id } = event.public;
      const next = withCall(state, tool_use_id, (call) => ({ ...call, isIntended: true }));
      return next.calls.some(({ id, isPure }) => id === tool_use_id && !isPure) ? touched(next) : next;
    }
    case 'agent.tool_result': {
      const { tool_use_id, content, is_error } = event.public;
      const resolved = resolve(state, tool_use_id, content, is_error);
      const cwd = event.private?.cwd;
      return cwd === undefined || resolved === state ? resolved : { ...resolved, cwd };
    }
    default:
      return state;
  }
}

function applyResponse(
  state: SessionState,
  turn: Turn,
  startId: string,
  response: EventBodies['model.response']['X'],
): SessionState {
  // A response of an attempt that was given up already is a fact without effect.
  if (turn.model?.startId !== startId) return state;
  const { provider, wire, model, items, output } = response;
  const refusal = output.find((item) => item.type === 'refusal');
  return {
    ...state,
    usage: addUsage(state.usage, response.usage),
    calls: [],
    history: state.history.push({ type: 'response', provider, wire, model, items, output }),
    turn: {
      ...turn,
      rounds: turn.rounds + 1,
      attempts: 0,
      model: null,
      response,
      responseStartId: startId,
      lastStop: response.stop,
      refusal: refusal?.type === 'refusal' ? refusal.text : null,
      owesModel: false,
    },
  };
}

/** Every attempt ends its span, and the span says what it cost (G3). Of a response it is the last event. */
function applySpanEnd(state: SessionState, end: EventBodies['span.model_request_end']['P']): SessionState {
  const costMicros = addCost(state.costMicros, end.cost_micros);
  return withTurn({ ...state, costMicros }, { response: null, responseStartId: null });
}

function applyFailure(
  state: SessionState,
  turn: Turn,
  failed: EventBodies['model.failed']['P'],
  detail: EventBodies['model.failed']['X'],
): SessionState {
  if (turn.model?.startId !== failed.model_request_start_id) return state;
  // An engine's death or a person's interrupt is not the provider's failure: nothing to wait for.
  const isOurs = failed.kind === 'engine_lost' || failed.kind === 'aborted';
  const failure = isOurs
    ? null
    : {
        kind: failed.kind,
        message: failed.message,
        isRetryable: detail.isRetryable,
        retryAfterMs: detail.retryAfterMs,
      };
  return {
    ...state,
    usage: detail.usage ? addUsage(state.usage, detail.usage) : state.usage,
    turn: { ...turn, model: null, failure, attempts: turn.attempts + (isOurs ? 0 : 1) },
  };
}

function callOf(
  state: SessionState,
  event: Extract<Folded, { type: 'agent.tool_use' | 'agent.custom_tool_use' }>,
): Call {
  const tool = state.config?.tools.find((pinned) => pinned.name === event.public.name);
  const base = {
    id: event.id,
    providerCallId: event.private.providerCallId,
    name: event.public.name,
    input: event.public.input,
    confirmation: null,
    isIntended: false,
    isPure: tool?.isPure ?? false,
    outcome: null,
  };
  if (event.type === 'agent.custom_tool_use') {
    return { ...base, kind: 'custom', permission: 'allow', denyMessage: null };
  }
  return {
    ...base,
    kind: 'builtin',
    permission: event.public.evaluated_permission,
    denyMessage: event.private.denyMessage ?? null,
  };
}

/** L4: the first result counts. With the last one, all enter the history in the order of their calls. */
function resolve(state: SessionState, id: string, content: ContentBlock[], isError: boolean): SessionState {
  const target = state.calls.find((call) => call.id === id);
  if (!target || target.outcome) return state;
  const next = withCall(state, id, (call) => ({ ...call, outcome: { content, isError } }));
  if (next.calls.some((call) => call.outcome === null)) return next;
  const results = next.calls.map(
    (call): HistoryItem => ({
      type: 'tool_result',
      providerCallId: call.providerCallId,
      content: call.outcome?.content ?? [],
      isError: call.outcome?.isError ?? true,
    }),
  );
  return withTurn({ ...next, history: next.history.push(...results) }, { owesModel: true });
}

function withCall(state: SessionState, id: string, change: (call: Call) => Call): SessionState {
  return { ...state, calls: state.calls.map((call) => (call.id === id ? change(call) : call)) };
}

function withTurn(state: SessionState, change: Partial<Turn>): SessionState {
  return state.turn ? { ...state, turn: { ...state.turn, ...change } } : state;
}

function addUsage(a: TokenUsage, b: TokenUsage): TokenUsage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
    outputTokens: a.outputTokens + b.outputTokens,
  };
}

function addCost(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a + b;
}

const freshTurn: Turn = {
  id: '',
  rounds: 0,
  attempts: 0,
  model: null,
  response: null,
  responseStartId: null,
  failure: null,
  retry: null,
  lastStop: null,
  refusal: null,
  owesModel: false,
};
