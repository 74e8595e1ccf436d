/**
 * What checkpoints, forks and rollbacks mean (docs/design/checkpoints.md): `fold`'s part for them. Pure.
 *
 * A checkpoint belongs to the end of a turn, where nothing is open, so all that a return needs of the past is how long
 * the history was, the working directory and what was known of the sandbox. What people said (title, answers about hosts)
 * and what was spent is not undone.
 */
import type { Draft, EventBodies } from './events.ts';
import { noUsage } from './model-request.ts';
import type { Checkpoints, KeptCheckpoint, SessionState } from './state.ts';
import { initialState } from './state.ts';

type Placed = Draft & { seq: number };

/** Failures remembered for whoever asked. */
const maxFailed = 8;

/** Null: the event is not of checkpoints. */
export function applyCheckpoint(state: SessionState, event: Placed): SessionState | null {
  const { checkpoints } = state;
  switch (event.type) {
    case 'checkpoint.requested':
      return withCheckpoints(state, { requests: [...checkpoints.requests, event.public.checkpoint_id] });
    case 'checkpoint.intent':
      return begun(state, event.public);
    case 'checkpoint.created':
      return created(state, event.public);
    case 'checkpoint.failed':
      return failed(state, event.public);
    case 'checkpoint.removed':
      return withCheckpoints(state, {
        kept: checkpoints.kept.filter(({ id }) => id !== event.public.checkpoint_id),
      });
    case 'session.rollback_requested':
      return rollbackTarget(state, event.public.checkpoint_id) === null
        ? state
        : restoring(state, event.id, event.public.checkpoint_id, null);
    case 'session.rolled_back':
      return rolledBack(state, event.public.checkpoint_id, event);
    case 'session.rollback_failed':
    case 'workspace.restored':
      return withCheckpoints(state, { restoring: null });
    case 'session.forked':
      return forked(state, event);
    case 'workspace_lost':
      return {
        // What was kept of it was on the same machine.
        ...withCheckpoints(state, { kept: [], making: null, restoring: null }),
        sandbox: initialState.sandbox,
        cwd: initialState.cwd,
      };
    default:
      return null;
  }
}

/** The checkpoint that an idle session can go back to; null where it can not. */
export function rollbackTarget(state: SessionState, id: string): KeptCheckpoint | null {
  const { kept, restoring: isBusy } = state.checkpoints;
  if (state.turn !== null || isBusy !== null) return null;
  return kept.find((one) => one.id === id && one.isOnLine) ?? null;
}

/** A turn has ended: the session can be returned to this event. */
export function atRest(state: SessionState, { id, seq }: Placed): SessionState {
  return state.turn === null ? withCheckpoints(state, { position: { eventId: id, seq } }) : state;
}

export function touched(state: SessionState): SessionState {
  return state.checkpoints.isTouched ? state : withCheckpoints(state, { isTouched: true });
}

function withCheckpoints(state: SessionState, change: Partial<Checkpoints>): SessionState {
  return { ...state, checkpoints: { ...state.checkpoints, ...change } };
}

function begun(state: SessionState, intent: EventBodies['checkpoint.intent']['P']): SessionState {
  const { position, making, requests } = state.checkpoints;
  if (making !== null || position === null || state.turn !== null) return state;
  const { checkpoint_id: id, reason } = intent;
  const { cwd, sandbox, history } = state;
  return withCheckpoints(state, {
    making: { id, reason, ...position, historyLength: history.length, cwd, sandbox },
    // Also where it fails: it is not tried again before something else has changed.
    isTouched: false,
    requests: requests.filter((asked) => asked !== id),
  });
}

function created(state: SessionState, made: EventBodies['checkpoint.created']['P']): SessionState {
  const { making, kept } = state.checkpoints;
  if (making?.id !== made.checkpoint_id) return state;
  const checkpoint: KeptCheckpoint = {
    ...making,
    driver: made.driver,
    sizeBytes: made.size_bytes,
    files: made.files,
    tookMs: made.took_ms,
    madeAt: made.made_at,
    isOnLine: true,
  };
  return withCheckpoints(state, { making: null, kept: [...kept, checkpoint] });
}

function failed(state: SessionState, failure: EventBodies['checkpoint.failed']['P']): SessionState {
  const { making, failed: before } = state.checkpoints;
  const { checkpoint_id: id, message } = failure;
  if (making?.id !== id) return state;
  return withCheckpoints(state, { making: null, failed: [...before, { id, message }].slice(-maxFailed) });
}

function restoring(
  state: SessionState,
  callId: string,
  checkpoint: string,
  fromSession: string | null,
): SessionState {
  return withCheckpoints(state, { restoring: { callId, checkpoint, fromSession } });
}

function rolledBack(state: SessionState, id: string, { id: eventId, seq }: Placed): SessionState {
  const { restoring: asked, kept } = state.checkpoints;
  const target = kept.find((one) => one.id === id && one.isOnLine);
  if (asked?.checkpoint !== id || !target || state.turn !== null) return state;
  return {
    ...withCheckpoints(state, {
      restoring: null,
      isTouched: false,
      position: { eventId, seq },
      kept: kept.map((one) => (one.seq > target.seq ? { ...one, isOnLine: false } : one)),
    }),
    history: state.history.take(target.historyLength),
    cwd: target.cwd,
    // Where the disk is and how it is kept has not changed.
    sandbox: { ...state.sandbox, isReady: target.sandbox.isReady, baseCommit: target.sandbox.baseCommit },
  };
}

/** What waited in the parent's queue is not of the conversation up to here; what it has spent is the parent's. */
function forked(state: SessionState, event: Extract<Placed, { type: 'session.forked' }>): SessionState {
  const { config, sandbox } = state;
  if (state.turn !== null || config === null) return state;
  const { from_session_id, checkpoint_id } = event.public;
  const fresh: Checkpoints = {
    ...initialState.checkpoints,
    position: { eventId: event.id, seq: event.seq },
    isTouched: checkpoint_id !== null,
  };
  const next: SessionState = {
    ...state,
    config: { ...config, resources: event.private.resources },
    queue: [],
    interrupts: [],
    usage: noUsage,
    costMicros: 0,
    sandbox: { ...sandbox, isStarted: false },
    checkpoints: fresh,
  };
  return checkpoint_id === null ? next : restoring(next, event.id, checkpoint_id, from_session_id);
}
