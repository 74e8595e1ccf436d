/**
 * The end of a turn that the engine itself cannot go on with: said to people, and closed as every turn is. Asks neither
 * guard nor hands, for they may be what is broken.
 *
 * - L4: every open call gets its result first.
 * - L6: a call that may have begun is in doubt, not failed.
 * - G3: a model call whose outcome nobody knows is settled, so that its reservation does not stay open.
 */
import type { Draft } from '../session/events.ts';
import { fold } from '../session/fold.ts';
import type { Call, SessionState } from '../session/state.ts';
import { failureDrafts } from './act-model.ts';
import type { Facts } from './acts.ts';
import { draft } from './draft.ts';
import { endWith, realize, type Shell } from './realize.ts';

const notRun = 'This call was not run: the engine had to end the turn because of an error of its own.';
const inDoubt =
  'It is not known whether this call took effect: the engine had to end the turn because of an error of its own. ' +
  'Check what it would have changed before you repeat it.';

/** Null where there is nothing to end. */
export function giveUp(state: SessionState, shell: Shell, message: string): Facts | null {
  const drafts: Draft[] = [];
  let now = state;
  const add = (...more: Draft[]): void => {
    for (const event of more) {
      drafts.push(event);
      now = fold(now, { ...event, seq: now.seq + 1 });
    }
  };
  const first = state.queue[0];
  // What breaks before the turn has begun would break it again: the message is taken, and answered with the error.
  if (!now.turn && first) add(...realize({ type: 'start_turn', eventIds: [first.eventId] }, now, shell));
  const { turn } = now;
  if (!turn) return null;
  if (turn.response) add(...realize({ type: 'publish', turn }, now, { ...shell, decide: denyAll }));
  const settled = closeModel(now, shell, add);
  for (const call of now.calls.filter(({ outcome }) => outcome === null)) add(closed(call, now, shell));
  const error = { type: 'unknown_error', message, retry_status: { type: 'exhausted' as const } };
  add(draft(shell.mint, now, 'session.error', { error }, {}));
  add(...endWith(turn, { type: 'retries_exhausted' }, null, false, now, shell));
  return settled ? { drafts, settled } : { drafts };
}

const denyAll: Shell['decide'] = () => ({ permission: 'deny', reason: notRun });

function closeModel(state: SessionState, shell: Shell, add: (...drafts: Draft[]) => void): Facts['settled'] {
  const model = state.turn?.model;
  if (!model) return undefined;
  const error = {
    kind: 'engine_lost',
    message: 'the engine failed while this request was made',
    isRetryable: false,
    retryAfterMs: null,
  };
  add(...failureDrafts({ ...model, error, usage: null, costMicros: 0, shownIds: null }, state, shell.mint));
  return { id: model.callId, costMicros: 0 };
}

function closed(call: Call, state: SessionState, shell: Shell): Draft {
  const isUnsure = call.isIntended && !call.isPure;
  return draft(
    shell.mint,
    state,
    'agent.tool_result',
    {
      tool_use_id: call.id,
      content: [{ type: 'text', text: isUnsure ? inDoubt : notRun }],
      is_error: true,
      ...(isUnsure ? { in_doubt: true } : {}),
    },
    { call: call.id, causation: call.id, private: {} },
  );
}
