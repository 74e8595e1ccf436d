/**
 * What a session's log means at one point: the state that `fold` builds and `decide` reads. Plain values only.
 */
import type { ContentBlock } from '../protocol/content.ts';
import type { JsonObject } from '../protocol/json.ts';
import { AppendOnly } from './append-only.ts';
import type { CheckpointReason, Delivery, EventBodies, StopDetails, StopReason } from './events.ts';
import type { HistoryItem, TokenUsage } from './model-request.ts';
import { noUsage } from './model-request.ts';

export type SessionConfig = EventBodies['session.created']['X'];

export type NetworkAnswer = EventBodies['user.network_access']['P'];

export type PendingMessage = { eventId: string; content: ContentBlock[]; delivery: Delivery };

export type Outcome = { content: ContentBlock[]; isError: boolean };

/** One tool call of the latest response. It is open while `outcome` is null (L4). */
export type Call = {
  /** The tool use's event id: the id clients answer to, and the host's call id. */
  id: string;
  providerCallId: string;
  name: string;
  input: JsonObject;
  kind: 'builtin' | 'custom';
  permission: 'allow' | 'ask' | 'deny';
  /** Why the guard or the parser refused it, for the model. */
  denyMessage: string | null;
  confirmation: { result: 'allow' | 'deny'; message: string | null } | null;
  /** L5: its intent is durable, so its effect may have begun. */
  isIntended: boolean;
  isPure: boolean;
  outcome: Outcome | null;
};

export type Turn = {
  id: string;
  /** Responses so far. */
  rounds: number;
  /** Failed attempts at the present round. */
  attempts: number;
  /** A model call whose outcome is not in the log yet. */
  model: { callId: string; startId: string } | null;
  /** A response that is not published yet (L5: it is durable before the guard sees it). */
  response: EventBodies['model.response']['X'] | null;
  responseStartId: string | null;
  /** A failure for which nothing has been decided yet. */
  failure: { kind: string; message: string; isRetryable: boolean; retryAfterMs: number | null } | null;
  retry: { timerId: string; at: string } | null;
  /** How the latest response ended; null before the first. */
  lastStop: 'end' | 'max_output' | 'refusal' | null;
  refusal: string | null;
  /** Something in the history has not been shown to the model yet. */
  owesModel: boolean;
};

/** `hostId` is where its disk is: a workspace is on one machine. `diskDriver` is how checkpoints are made there. */
export type SandboxState = {
  isStarted: boolean;
  isReady: boolean;
  hostId: string | null;
  baseCommit: string | null;
  diskDriver: string | null;
  /** Digest of the environment's layer, once it was built or found. */
  layer: string | null;
};

/** The end of a turn: the log's event and sequence, and what the session was there. */
export type Mark = {
  id: string;
  reason: CheckpointReason;
  eventId: string;
  seq: number;
  historyLength: number;
  cwd: string;
  sandbox: SandboxState;
};

/** A checkpoint that its host has. */
export type KeptCheckpoint = Mark & {
  driver: string;
  sizeBytes: number | null;
  files: number | null;
  tookMs: number;
  madeAt: string;
  /** False where a rollback left it: it can be forked from, and not be gone back to. */
  isOnLine: boolean;
};

export type Checkpoints = {
  /** Oldest first. */
  kept: readonly KeptCheckpoint[];
  /** The newest event that the session can be returned to; null before the first turn has ended. */
  position: { eventId: string; seq: number } | null;
  /** Something may have changed the workspace since the last checkpoint. */
  isTouched: boolean;
  /** Asked for and not begun, by id. */
  requests: readonly string[];
  /** Intended; its outcome is not in the log yet. */
  making: Mark | null;
  /** The workspace is about to become that of a checkpoint, of this session or (a fork) of another. */
  restoring: { callId: string; checkpoint: string; fromSession: string | null } | null;
  /** The latest that could not be made. */
  failed: readonly { id: string; message: string }[];
};

export type SessionState = {
  seq: number;
  config: SessionConfig | null;
  title: string | null;
  status: 'idle' | 'running' | 'rescheduling' | 'terminated';
  stopReason: StopReason | null;
  stopDetails: StopDetails;
  isArchived: boolean;
  isDeleted: boolean;
  queue: PendingMessage[];
  /** Interrupts not applied yet. */
  interrupts: string[];
  turn: Turn | null;
  calls: Call[];
  history: AppendOnly<HistoryItem>;
  cwd: string;
  sandbox: SandboxState;
  checkpoints: Checkpoints;
  /** What people said about hosts, in order; the last word on one counts. */
  networkAnswers: readonly NetworkAnswer[];
  usage: TokenUsage;
  /** Null as soon as one call had no known price. */
  costMicros: number | null;
};

export const initialState: SessionState = {
  seq: 0,
  config: null,
  title: null,
  status: 'idle',
  stopReason: null,
  stopDetails: null,
  isArchived: false,
  isDeleted: false,
  queue: [],
  interrupts: [],
  turn: null,
  calls: [],
  history: AppendOnly.empty(),
  cwd: '/workspace',
  sandbox: {
    isStarted: false,
    isReady: false,
    hostId: null,
    baseCommit: null,
    diskDriver: null,
    layer: null,
  },
  checkpoints: {
    kept: [],
    position: null,
    isTouched: false,
    requests: [],
    making: null,
    restoring: null,
    failed: [],
  },
  networkAnswers: [],
  usage: noUsage,
  costMicros: 0,
};

/** Calls that wait for a person or a client, in order. */
export function blockers(state: SessionState): Call[] {
  return state.calls.filter(
    (call) =>
      call.outcome === null &&
      (call.kind === 'custom'
        ? call.permission !== 'deny'
        : call.permission === 'ask' && call.confirmation === null),
  );
}

/** Whether the session waits for a client and does nothing else. */
export function isBlocked(state: SessionState): boolean {
  return state.status === 'idle' && state.turn !== null && blockers(state).length > 0;
}
