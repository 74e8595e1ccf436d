/**
 * decide(state) → effects: what is to be done next, and nothing about how.
 *
 * Two kinds. A *record* changes only the log: the driver writes it (minting ids, asking the guard) and decides again, so
 * that consequences are committed together with their cause. An *act* touches the world: it is done only after what
 * led to it is durable (L5), and its key tells the driver whether it is under way already.
 *
 * - L4: while a call is open its turn cannot end; every way out of a turn closes its calls first.
 * - L5: a response is published (and guarded) before anything of it runs; what needs approval waits for it.
 * - Two messages are two turns in order, never two loops (delivery: queue); `steer` is heard at the next boundary.
 */

import { isDue } from './checkpoint-policy.ts';
import type { Call, SessionState, Turn } from './state.ts';
import { blockers } from './state.ts';

/** More responses than this in one turn is an agent that does not come to an end. */
export const maxRoundsPerTurn = 5_000;

export type RecordEffect =
  | { type: 'start_turn'; eventIds: string[] }
  | { type: 'steer'; turn: Turn; eventIds: string[] }
  | { type: 'acknowledge_interrupts'; eventIds: string[] }
  /** Guard and publish the response that has just become durable. */
  | { type: 'publish'; turn: Turn }
  /** Results for calls that will never run. */
  | { type: 'close_calls'; calls: Call[]; because: 'denied' | 'interrupted' }
  | { type: 'block'; eventIds: string[] }
  | { type: 'unblock' }
  /** Decide between another attempt (and when) and giving up. */
  | { type: 'settle_failure'; turn: Turn }
  | { type: 'end_turn'; turn: Turn; how: 'done' | 'interrupted' | 'refused' | 'too_many_rounds' };

export type ActEffect =
  | { type: 'call_model'; turn: Turn }
  /** The outcome of a model call under this id is not in the log. */
  | { type: 'await_model'; callId: string; turn: Turn }
  | { type: 'cancel_model'; callId: string; turn: Turn }
  | { type: 'run_tool'; call: Call }
  | { type: 'cancel_tool'; call: Call }
  | { type: 'wait'; timerId: string; until: string }
  /** Keep the workspace as it is at the end of the last turn. The session goes on meanwhile, but for its sandbox. */
  | { type: 'checkpoint' }
  /** Put a checkpoint in place of the workspace. */
  | { type: 'restore'; restoring: Restoring };

type Restoring = NonNullable<SessionState['checkpoints']['restoring']>;

export type Effect = RecordEffect | ActEffect;

const actTypes = new Set<Effect['type']>([
  'call_model',
  'await_model',
  'cancel_model',
  'run_tool',
  'cancel_tool',
  'wait',
  'checkpoint',
  'restore',
]);

export function isAct(effect: Effect): effect is ActEffect {
  return actTypes.has(effect.type);
}

/** Either one record, or all acts that may be under way at once, or nothing: then the session rests. */
export function decide(state: SessionState): Effect[] {
  if (!state.config || state.isDeleted || state.isArchived || state.status === 'terminated') return [];
  const { making, restoring } = state.checkpoints;
  if (restoring) {
    // No turn is open: that is when one is asked for. What is sent meanwhile waits.
    if (state.interrupts.length > 0) return interrupted(state, null);
    return [making ? { type: 'checkpoint' } : { type: 'restore', restoring }];
  }
  // Before the next turn begins, or its position would be lost; only its intent is waited for.
  if (isDue(state)) return [{ type: 'checkpoint' }];
  return making ? besideCheckpoint(decideTurn(state)) : decideTurn(state);
}

/** Nothing begins in the sandbox while it is being kept. */
function besideCheckpoint(effects: Effect[]): Effect[] {
  const first = effects[0];
  if (first && !isAct(first)) return effects;
  return [...effects.filter(({ type }) => type !== 'run_tool'), { type: 'checkpoint' }];
}

function decideTurn(state: SessionState): Effect[] {
  const { turn } = state;
  if (turn?.response) return [{ type: 'publish', turn }];
  if (state.interrupts.length > 0) return interrupted(state, turn);
  if (!turn) {
    const first = state.queue[0];
    return first ? [{ type: 'start_turn', eventIds: [first.eventId] }] : [];
  }
  const open = state.calls.filter((call) => call.outcome === null);
  return open.length > 0 ? withOpenCalls(state, open) : betweenCalls(state, turn);
}

function interrupted(state: SessionState, turn: Turn | null): Effect[] {
  if (!turn) return [{ type: 'acknowledge_interrupts', eventIds: state.interrupts }];
  if (turn.model) return [{ type: 'cancel_model', callId: turn.model.callId, turn }];
  const open = state.calls.filter((call) => call.outcome === null);
  const neverRan = open.filter((call) => !call.isIntended);
  if (neverRan.length > 0) return [{ type: 'close_calls', calls: neverRan, because: 'interrupted' }];
  if (open.length > 0) return open.map((call) => ({ type: 'cancel_tool', call }));
  return [{ type: 'end_turn', turn, how: 'interrupted' }];
}

function withOpenCalls(state: SessionState, open: Call[]): Effect[] {
  const waiting = blockers(state);
  const denied = open.filter(
    (call) => !call.isIntended && (call.permission === 'deny' || call.confirmation?.result === 'deny'),
  );
  if (denied.length > 0) return [{ type: 'close_calls', calls: denied, because: 'denied' }];
  // What a person allowed runs when the last answer is in; what needs no answer runs at once.
  const runnable = open.filter(
    (call) =>
      call.kind === 'builtin' &&
      (call.permission === 'allow' || (call.confirmation?.result === 'allow' && waiting.length === 0)),
  );
  if (runnable.length > 0) {
    if (waiting.length === 0 && state.status === 'idle') return [{ type: 'unblock' }];
    return concurrent(runnable).map((call) => ({ type: 'run_tool', call }));
  }
  if (waiting.length === 0) return [];
  const ids = waiting.map((call) => call.id);
  return isBlockedOn(state, ids) ? [] : [{ type: 'block', eventIds: ids }];
}

/**
 * Calls that change nothing run together; one that may change something runs alone, in its place. One that has begun
 * counts even where an earlier one has only now been allowed: that one waits for it.
 */
function concurrent(runnable: Call[]): Call[] {
  const begun = runnable.filter((call) => call.isIntended);
  if (begun.some((call) => !call.isPure)) return begun;
  const firstImpure = runnable.findIndex((call) => !call.isPure);
  const pure = firstImpure === -1 ? runnable : runnable.slice(0, firstImpure);
  if (begun.length === 0 && pure.length === 0) return runnable.slice(0, 1);
  return runnable.filter((call) => call.isIntended || pure.includes(call));
}

function isBlockedOn(state: SessionState, ids: string[]): boolean {
  const reason = state.stopReason;
  return (
    state.status === 'idle' &&
    reason?.type === 'requires_action' &&
    reason.event_ids.length === ids.length &&
    reason.event_ids.every((id) => ids.includes(id))
  );
}

function betweenCalls(state: SessionState, turn: Turn): Effect[] {
  if (turn.model) return [{ type: 'await_model', callId: turn.model.callId, turn }];
  if (turn.failure) return [{ type: 'settle_failure', turn }];
  if (turn.retry) return [{ type: 'wait', timerId: turn.retry.timerId, until: turn.retry.at }];
  if (state.status !== 'running') return [{ type: 'unblock' }];
  const steering = state.queue
    .filter((message) => message.delivery === 'steer')
    .map((message) => message.eventId);
  if (steering.length > 0) return [{ type: 'steer', turn, eventIds: steering }];
  if (!turn.owesModel) {
    return [{ type: 'end_turn', turn, how: turn.lastStop === 'refusal' ? 'refused' : 'done' }];
  }
  if (turn.rounds >= maxRoundsPerTurn) return [{ type: 'end_turn', turn, how: 'too_many_rounds' }];
  return [{ type: 'call_model', turn }];
}
