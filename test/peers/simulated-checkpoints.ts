/** The simulator's person and host where checkpoints are concerned: what is asked, and how it ends. */
import type { Mint } from '../../src/engine/draft.ts';
import { draft } from '../../src/engine/draft.ts';
import { superseded } from '../../src/session/checkpoint-policy.ts';
import type { Draft } from '../../src/session/events.ts';
import { rollbackTarget } from '../../src/session/fold-checkpoints.ts';
import type { SessionState } from '../../src/session/state.ts';

type Choose = (below: number) => number;

/** As the API does it: a rollback only where the session rests, and to a checkpoint that it can go back to. */
export function askOfCheckpoints(state: SessionState, blank: { id: string }, choose: Choose): Draft[] {
  const { kept } = state.checkpoints;
  const target = kept[choose(Math.max(1, kept.length))]?.id;
  const isResting = state.queue.length === 0 && state.interrupts.length === 0;
  if (choose(2) === 0 || !isResting || target === undefined) {
    const asked = { checkpoint_id: `ckpt_${blank.id}` };
    return [{ ...blank, type: 'checkpoint.requested', public: asked, private: null } as Draft];
  }
  if (rollbackTarget(state, target) === null) return [];
  const asked = { checkpoint_id: target };
  return [{ ...blank, type: 'session.rollback_requested', public: asked, private: null } as Draft];
}

export function checkpointEnd(state: SessionState, mint: Mint, choose: Choose): Draft[] {
  const { making } = state.checkpoints;
  if (!making) throw new Error('a checkpoint ended that was not begun');
  const said = { checkpoint_id: making.id, at_event_id: making.eventId };
  if (choose(4) === 0) return [draft(mint, state, 'checkpoint.failed', { ...said, message: 'full' }, {})];
  const cost = { driver: 'btrfs', size_bytes: null, files: null, took_ms: 5, made_at: 'now' };
  const gone = superseded(state).map((checkpoint_id) =>
    draft(mint, state, 'checkpoint.removed', { checkpoint_id, because: 'superseded' as const }, {}),
  );
  const made = { ...said, ...cost, reason: making.reason };
  return [...gone, draft(mint, state, 'checkpoint.created', made, {})];
}

type Restoring = NonNullable<SessionState['checkpoints']['restoring']>;

export function restoreEnd(asked: Restoring, state: SessionState, mint: Mint, choose: Choose): Draft[] {
  const { checkpoint: checkpoint_id, fromSession } = asked;
  if (fromSession !== null) {
    const restored = { checkpoint_id, from_session_id: fromSession };
    return [draft(mint, state, 'workspace.restored', restored, {})];
  }
  const target = state.checkpoints.kept.find(({ id, isOnLine }) => id === checkpoint_id && isOnLine);
  if (!target || choose(4) === 0)
    return [draft(mint, state, 'session.rollback_failed', { checkpoint_id, message: 'gone' }, {})];
  const back = { checkpoint_id, at_event_id: target.eventId };
  return [draft(mint, state, 'session.rolled_back', back, {})];
}
