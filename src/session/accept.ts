/**
 * Which inputs a session takes now (managed-agents-protocol.md §5.3, §5.6, §5.7, §5.9). Pure. Several inputs of one
 * request are accepted one after the other, each on the state with the earlier ones folded in: all or none.
 */
import { decide } from './decide.ts';
import type { Draft } from './events.ts';
import type { SessionState } from './state.ts';
import { blockers, initialState, isBlocked } from './state.ts';

export type InputEvent = Extract<
  Draft,
  {
    type:
      | 'user.message'
      | 'user.interrupt'
      | 'user.tool_confirmation'
      | 'user.custom_tool_result'
      | 'user.network_access';
  }
>;

export type Acceptance = { ok: true } | { ok: false; message: string };

export function accept(state: SessionState, input: InputEvent): Acceptance {
  if (state.isDeleted || !state.config) return refuse('This session does not exist any more.');
  if (state.isArchived || state.status === 'terminated') {
    return refuse('This session is archived and takes no more events. Create a new session.');
  }
  switch (input.type) {
    case 'user.message':
      return isBlocked(state) && state.interrupts.length === 0
        ? refuse(
            'This session waits for answers to tool calls (stop_reason requires_action). ' +
              'Answer them with user.tool_confirmation or user.custom_tool_result, or send user.interrupt first.',
          )
        : { ok: true };
    case 'user.interrupt': {
      const thread = input.public.session_thread_id;
      return thread !== undefined && thread !== state.config.thread
        ? refuse(`session_thread_id: ${thread} is not a thread of this session.`)
        : { ok: true };
    }
    case 'user.tool_confirmation':
      return acceptConfirmation(state, input.public.tool_use_id);
    case 'user.network_access':
      return acceptNetworkAnswer(state);
    case 'user.custom_tool_result':
      return acceptResult(state, input.public.custom_tool_use_id);
  }
}

/**
 * Whether an idle session has work now, with these inputs folded in. Whoever appends them says `session.status_running`
 * in the same append, so that nobody who asks in between takes the old idle for the answer. While an answer is missing
 * only the engine's bookkeeping is left to do, and the session goes on waiting.
 */
export function beginsWork(state: SessionState): boolean {
  if (state.status !== 'idle' || state.interrupts.length > 0 || blockers(state).length > 0) return false;
  // A checkpoint is no work of the session's own.
  return decide({ ...state, checkpoints: initialState.checkpoints }).length > 0;
}

function acceptConfirmation(state: SessionState, id: string): Acceptance {
  const call = state.calls.find((known) => known.id === id);
  if (call?.kind !== 'builtin')
    return refuse(`tool_use_id: ${id} is not a tool call that waits for confirmation.`);
  if (call.permission !== 'ask') return refuse(`tool_use_id: ${id} needs no confirmation.`);
  if (call.confirmation || call.outcome) return refuse(`tool_use_id: ${id} has been answered already.`);
  return { ok: true };
}

/** More answers than that are not given by people. */
const maxNetworkAnswers = 500;

function acceptNetworkAnswer(state: SessionState): Acceptance {
  if (state.networkAnswers.length >= maxNetworkAnswers)
    return refuse(
      `This session has ${maxNetworkAnswers} answers about hosts. Put the hosts into an environment's allowed_hosts.`,
    );
  return { ok: true };
}

function acceptResult(state: SessionState, id: string): Acceptance {
  const call = state.calls.find((known) => known.id === id);
  if (call?.kind !== 'custom')
    return refuse(`custom_tool_use_id: ${id} is not a custom tool call of this session.`);
  if (call.outcome) return refuse(`custom_tool_use_id: ${id} has been answered already.`);
  return { ok: true };
}

function refuse(message: string): Acceptance {
  return { ok: false, message };
}
