/**
 * A folded state as JSON and back, so that a long log need not be folded from its beginning. Only a cache (L1): whoever
 * cannot read one folds the log, and throwing all of them away changes nothing.
 */
import type { JsonObject } from '../protocol/json.ts';
import { AppendOnly } from './append-only.ts';
import type { HistoryItem } from './model-request.ts';
import type { Call, SessionState, Turn } from './state.ts';

/**
 * Raise it whenever `fold` gives another state for a log than it did: a new member, another meaning, an event that it
 * took no notice of before. Snapshots of other readers are not read.
 */
export const snapshotReader = 3;

/** The members of a state. One that is added stops this file from compiling: raise `snapshotReader` with it. */
const stateMembers: Record<keyof SessionState, true> = {
  seq: true,
  config: true,
  title: true,
  status: true,
  stopReason: true,
  stopDetails: true,
  isArchived: true,
  isDeleted: true,
  queue: true,
  interrupts: true,
  turn: true,
  calls: true,
  history: true,
  cwd: true,
  sandbox: true,
  checkpoints: true,
  networkAnswers: true,
  usage: true,
  costMicros: true,
};

const sandboxMembers: Record<keyof SessionState['sandbox'], true> = {
  isStarted: true,
  isReady: true,
  hostId: true,
  baseCommit: true,
  diskDriver: true,
  layer: true,
};

const checkpointMembers: Record<keyof SessionState['checkpoints'], true> = {
  kept: true,
  position: true,
  isTouched: true,
  requests: true,
  making: true,
  restoring: true,
  failed: true,
};

const turnMembers: Record<keyof Turn, true> = {
  id: true,
  rounds: true,
  attempts: true,
  model: true,
  response: true,
  responseStartId: true,
  failure: true,
  retry: true,
  lastStop: true,
  refusal: true,
  owesModel: true,
};

const callMembers: Record<keyof Call, true> = {
  id: true,
  providerCallId: true,
  name: true,
  input: true,
  kind: true,
  permission: true,
  denyMessage: true,
  confirmation: true,
  isIntended: true,
  isPure: true,
  outcome: true,
};

/** Shares what it can with the state: to be written or compared, not to be changed. */
export function encodeState(state: SessionState): JsonObject {
  return { ...state, history: state.history.toArray() } as unknown as JsonObject;
}

/** Null where it is not a state as this release knows it. */
export function decodeState(json: JsonObject): SessionState | null {
  const { history, calls, queue, interrupts, turn, sandbox, checkpoints, seq } = json;
  if (!hasJust(json, stateMembers) || !hasJust(sandbox, sandboxMembers)) return null;
  if (!hasJust(checkpoints, checkpointMembers)) return null;
  if (typeof seq !== 'number' || !Array.isArray(queue) || !Array.isArray(interrupts)) return null;
  if (turn !== null && !hasJust(turn, turnMembers)) return null;
  if (!Array.isArray(calls) || !calls.every((call) => hasJust(call, callMembers))) return null;
  if (!Array.isArray(history)) return null;
  const state = json as unknown as SessionState;
  return { ...state, history: AppendOnly.of(history as unknown as HistoryItem[]) };
}

function hasJust(value: unknown, members: Record<string, true>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const names = Object.keys(value);
  return names.length === Object.keys(members).length && names.every((name) => Object.hasOwn(members, name));
}
