/**
 * Keeping a session's workspace at the end of a turn, and putting a kept one in its place (rollback, fork).
 *
 * - L5: the intent names the checkpoint and is durable before the host is asked; a restore's request is its intent.
 * - L6: both are asked for again under the same name until their end is in the log; the host does each once.
 * - A checkpoint that cannot be made is said, and harms no turn. A rollback that cannot be made leaves all as it was. A
 *   fork that does not get its workspace is ended: it would work on other files than its conversation speaks of.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { newId } from '../protocol/ids.ts';
import type { Checkpoint, Executor, Refusal } from '../sandbox/executor.ts';
import { HostAway, HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import { superseded } from '../session/checkpoint-policy.ts';
import type { CheckpointReason, Draft } from '../session/events.ts';
import type { Mark, SessionState } from '../session/state.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';

export type DiskAccess = {
  executor: Executor;
  session: string;
  fence: number;
  /** Whether the host that does not answer is given up for good. */
  isLost(error: HostAway): Promise<boolean>;
};

type Restoring = NonNullable<SessionState['checkpoints']['restoring']>;

type RestoreAct = {
  restoring: Restoring;
  disk: DiskAccess;
  /** Puts a fork's uploads into its own sandbox. */
  carryUploads(): Promise<{ ok: true } | { ok: false; message: string }>;
  isAbandoned(): boolean;
};

/** How long a host that does not answer holds the session's next tool call up. */
const checkpointPatienceMs = 5_000;
const restorePatienceMs = 30_000;
const hostRetryMs = 250;

export function checkpointIntent(
  state: SessionState,
  mint: Mint,
  nowMs: number,
): { id: string; intents: Draft[] } {
  const { position, requests } = state.checkpoints;
  const asked = requests[0];
  const id = asked ?? newId('checkpoint', nowMs);
  const reason: CheckpointReason = asked === undefined ? 'turn_end' : 'requested';
  const intent = { checkpoint_id: id, at_event_id: position?.eventId ?? '', reason };
  return { id, intents: [draft(mint, state, 'checkpoint.intent', intent, { call: id })] };
}

/** `state` has the intent folded in. */
export async function makeCheckpoint(disk: DiskAccess, state: SessionState, mint: Mint): Promise<Draft[]> {
  const { making } = state.checkpoints;
  if (!making) throw new Error('no checkpoint is intended');
  try {
    const made = await patiently(checkpointPatienceMs, () =>
      disk.executor.checkpoint({ session: disk.session, fence: disk.fence, checkpoint: making.id }),
    );
    if (isRefusal(made)) return [failedDraft(making, made.message, state, mint)];
    return [...(await removeOld(disk, state, mint)), createdDraft(making, made, state, mint)];
  } catch (error) {
    // Whatever it is: the session goes on without.
    return [failedDraft(making, (error as Error).message, state, mint)];
  }
}

/** Also what was said to have failed and may be there nevertheless. */
async function removeOld(disk: DiskAccess, state: SessionState, mint: Mint): Promise<Draft[]> {
  const old = superseded(state);
  const removed: Draft[] = [];
  for (const checkpoint of [...old, ...state.checkpoints.failed.map(({ id }) => id)]) {
    const answer = await disk.executor.removeCheckpoint({
      session: disk.session,
      fence: disk.fence,
      checkpoint,
    });
    if (isRefusal(answer) || !old.includes(checkpoint)) continue;
    const why = { checkpoint_id: checkpoint, because: 'superseded' as const };
    removed.push(draft(mint, state, 'checkpoint.removed', why, {}));
  }
  return removed;
}

function createdDraft(mark: Mark, made: Checkpoint, state: SessionState, mint: Mint): Draft {
  const payload = {
    checkpoint_id: mark.id,
    at_event_id: mark.eventId,
    reason: mark.reason,
    driver: made.driver,
    size_bytes: made.sizeBytes,
    files: made.files,
    took_ms: Math.round(made.tookMs),
    made_at: new Date(made.madeAtMs).toISOString(),
  };
  return draft(mint, state, 'checkpoint.created', payload, { call: mark.id });
}

function failedDraft(mark: Mark, message: string, state: SessionState, mint: Mint): Draft {
  const payload = { checkpoint_id: mark.id, at_event_id: mark.eventId, message };
  return draft(mint, state, 'checkpoint.failed', payload, { call: mark.id });
}

/** Rejects with `HostUnreachable` where the host may come back: the session then waits in the store. */
export async function restoreCheckpoint(act: RestoreAct, state: SessionState, mint: Mint): Promise<Draft[]> {
  const { restoring, disk } = act;
  const { callId, checkpoint, fromSession } = restoring;
  const from = { session: fromSession ?? disk.session, checkpoint };
  const problem = await restored(act, () =>
    disk.executor.restore({ session: disk.session, fence: disk.fence, callId, from }),
  );
  return problem === null
    ? [doneDraft(restoring, state, mint)]
    : failedDrafts(restoring, problem, state, mint);
}

/** Null where it is done; else why it never will be. */
async function restored(act: RestoreAct, restore: () => Promise<object | Refusal>): Promise<string | null> {
  try {
    const answer = await patiently(restorePatienceMs, restore, act.isAbandoned);
    if (isRefusal(answer)) return answer.message;
    const carried = act.restoring.fromSession === null ? { ok: true as const } : await act.carryUploads();
    return carried.ok ? null : carried.message;
  } catch (error) {
    if (!(error instanceof HostAway) || !(await act.disk.isLost(error))) throw error;
    return `The machine that has the checkpoint (${error.host}) is lost, and the checkpoint with it.`;
  }
}

function doneDraft({ checkpoint, fromSession, callId }: Restoring, state: SessionState, mint: Mint): Draft {
  const checkpoint_id = checkpoint;
  const extra = { call: callId, causation: callId };
  if (fromSession !== null)
    return draft(mint, state, 'workspace.restored', { checkpoint_id, from_session_id: fromSession }, extra);
  const at_event_id = state.checkpoints.kept.find(({ id }) => id === checkpoint)?.eventId ?? '';
  return draft(mint, state, 'session.rolled_back', { checkpoint_id, at_event_id }, extra);
}

function failedDrafts(
  { checkpoint, fromSession, callId }: Restoring,
  why: string,
  state: SessionState,
  mint: Mint,
) {
  const extra = { call: callId, causation: callId };
  if (fromSession === null) {
    const failed = { checkpoint_id: checkpoint, message: why };
    return [draft(mint, state, 'session.rollback_failed', failed, extra)];
  }
  const error = {
    type: 'fork_failed_error',
    message: `The workspace of this fork could not be had: ${why} Fork from another checkpoint.`,
    retry_status: { type: 'terminal' as const },
  };
  const thread = {
    session_thread_id: state.config?.thread ?? '',
    agent_name: String(state.config?.agent.name ?? ''),
  };
  return [
    draft(mint, state, 'session.error', { error }, extra),
    draft(mint, state, 'session.thread_status_terminated', thread, extra),
    draft(mint, state, 'session.status_terminated', {}, extra),
  ];
}

/** A host that is being restarted is asked again, under the same name. */
async function patiently<T>(
  patienceMs: number,
  ask: () => Promise<T>,
  isAbandoned: () => boolean = () => false,
): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += hostRetryMs) {
    try {
      return await ask();
    } catch (error) {
      const isAway = error instanceof HostAway;
      if (!(error instanceof HostUnreachable) || isAway || waitedMs >= patienceMs || isAbandoned())
        throw error;
      await sleep(hostRetryMs);
    }
  }
}
