/**
 * What a record effect writes: the shell's half of `decide`. Mints ids, asks the guard (G1), looks at the clock and
 * the dice; the events hold the answers, so that folding them again needs none of these.
 */
import type { Decide } from '../guard/guard.ts';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { RecordEffect } from '../session/decide.ts';
import type { Draft, StopDetails, StopReason } from '../session/events.ts';
import type { OutputItem, TokenUsage } from '../session/model-request.ts';
import type { Call, SessionState, Turn } from '../session/state.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';

export type Shell = {
  mint: Mint;
  decide: Decide;
  session: string;
  nowMs(): number;
  /** Told of the state that the driver acts upon. */
  onFolded?(state: SessionState): void;
  /** When to try again after this many failed attempts, or null to give up. */
  retryDelayMs(
    failure: { kind: string; isRetryable: boolean; retryAfterMs: number | null },
    attempt: number,
  ): number | null;
};

export function realize(effect: RecordEffect, state: SessionState, shell: Shell): Draft[] {
  const { mint } = shell;
  switch (effect.type) {
    case 'start_turn': {
      const turn = newId('turn', shell.nowMs());
      return [
        draft(mint, state, 'turn.started', { turn_id: turn, event_ids: effect.eventIds }, { turn }),
        draft(mint, state, 'input.processed', { event_ids: effect.eventIds }, { turn }),
        ...running(state, shell, turn),
      ];
    }
    case 'steer':
      return [
        draft(mint, state, 'turn.steered', { turn_id: effect.turn.id, event_ids: effect.eventIds }, {}),
        draft(mint, state, 'input.processed', { event_ids: effect.eventIds }, {}),
      ];
    case 'acknowledge_interrupts':
      return [draft(mint, state, 'input.processed', { event_ids: effect.eventIds }, {})];
    case 'publish':
      return publish(effect.turn, state, shell);
    case 'close_calls':
      return effect.calls.map((call) => closed(call, effect.because, state, shell));
    case 'block':
      return idle(state, shell, { type: 'requires_action', event_ids: effect.eventIds }, null);
    case 'unblock':
      return running(state, shell);
    case 'settle_failure':
      return settleFailure(effect.turn, state, shell);
    case 'end_turn':
      return endTurn(effect, state, shell);
  }
}

function running(state: SessionState, shell: Shell, turn?: string): Draft[] {
  if (state.status === 'running') return [];
  const extra = turn === undefined ? {} : { turn };
  return [
    draft(shell.mint, state, 'session.status_running', {}, extra),
    draft(shell.mint, state, 'session.thread_status_running', threadOf(state), extra),
  ];
}

/** `session.usage` stands directly before every idle (§5.5 of the protocol). */
function idle(state: SessionState, shell: Shell, reason: StopReason, details: StopDetails): Draft[] {
  const stop = { stop_reason: reason, stop_details: details };
  return [
    draft(shell.mint, state, 'session.thread_status_idle', { ...threadOf(state), ...stop }, {}),
    draft(
      shell.mint,
      state,
      'session.usage',
      { usage: publicUsage(state.usage, state.costMicros), budget: null },
      {},
    ),
    draft(shell.mint, state, 'session.status_idle', stop, {}),
  ];
}

export function threadOf(state: SessionState): { session_thread_id: string; agent_name: string } {
  return {
    session_thread_id: state.config?.thread ?? '',
    agent_name: String(state.config?.agent.name ?? ''),
  };
}

function publicUsage(usage: TokenUsage, costMicros: number | null): JsonObject {
  const shown: JsonObject = {
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cache_read_input_tokens: usage.cacheReadTokens,
    cache_creation: { ephemeral_5m_input_tokens: usage.cacheWriteTokens, ephemeral_1h_input_tokens: 0 },
    cost_micros: costMicros,
  };
  // The protocol counts whole cents; the exact figure is beside it.
  if (costMicros !== null)
    shown.list_cost = { amount: String(Math.round(costMicros / 10_000)), currency: 'USD' };
  return shown;
}

/** L5: the response is in the log already (or in this very append, before these). */
function publish(turn: Turn, state: SessionState, shell: Shell): Draft[] {
  const { response, responseStartId } = turn;
  if (!response || !responseStartId) throw new Error('nothing to publish');
  const drafts: Draft[] = [];
  for (const item of response.output) drafts.push(...publishItem(item, responseStartId, state, shell));
  const end = {
    model_request_start_id: responseStartId,
    is_error: false,
    model_usage: spanUsage(response.usage),
    cost_micros: response.costMicros,
  };
  drafts.push(draft(shell.mint, state, 'span.model_request_end', end, { causation: responseStartId }));
  return drafts;
}

function publishItem(
  item: OutputItem & { eventId: string },
  causation: string,
  state: SessionState,
  shell: Shell,
): Draft[] {
  const extra = { id: item.eventId, causation };
  switch (item.type) {
    case 'reasoning':
      return [draft(shell.mint, state, 'agent.thinking', {}, extra)];
    case 'message':
    case 'refusal':
      if (item.text === '') return [];
      return [
        draft(shell.mint, state, 'agent.message', { content: [{ type: 'text', text: item.text }] }, extra),
      ];
    case 'tool_call':
      return [publishCall(item, extra, state, shell)];
  }
}

function publishCall(
  item: Extract<OutputItem, { type: 'tool_call' }>,
  extra: { id: string; causation: string },
  state: SessionState,
  shell: Shell,
): Draft {
  const tools = state.config?.tools ?? [];
  const kind = tools.find((tool) => tool.name === item.name)?.kind ?? 'builtin';
  const { providerCallId } = item;
  if (kind === 'custom' && item.input) {
    const use = { name: item.name, input: item.input };
    return draft(shell.mint, state, 'agent.custom_tool_use', use, {
      ...extra,
      call: extra.id,
      private: { providerCallId },
    });
  }
  const decision = item.input
    ? shell.decide(
        {
          type: 'agent',
          id: String(state.config?.agent.id),
          version: Number(state.config?.agent.version),
          session: shell.session,
        },
        { type: 'tool.call', tool: item.name, kind },
        { type: 'sandbox', session: shell.session },
        { input: item.input, tools },
      )
    : {
        permission: 'deny' as const,
        reason: `The arguments are not a JSON object: ${item.rawInput.slice(0, 200)}`,
      };
  const denyMessage = decision.permission === 'deny' ? { denyMessage: decision.reason ?? 'Denied.' } : {};
  const use = {
    name: item.name,
    input: item.input ?? {},
    evaluated_permission: decision.permission,
    ...('evaluation' in decision && decision.evaluation ? { evaluation: decision.evaluation } : {}),
  };
  return draft(shell.mint, state, 'agent.tool_use', use, {
    ...extra,
    call: extra.id,
    private: { providerCallId, ...denyMessage },
  });
}

export const interruptedText = 'Tool execution was interrupted before completion. Please retry.';

function closed(call: Call, because: 'denied' | 'interrupted', state: SessionState, shell: Shell): Draft {
  const said = call.confirmation?.message;
  const denied =
    call.denyMessage ??
    `Permission to use ${call.name} was rejected by the user.${said ? ` They said: ${said}` : ''}`;
  const text = because === 'denied' ? denied : interruptedText;
  return draft(
    shell.mint,
    state,
    'agent.tool_result',
    { tool_use_id: call.id, content: [{ type: 'text', text }], is_error: true },
    { call: call.id, causation: call.id, private: {} },
  );
}

function settleFailure(turn: Turn, state: SessionState, shell: Shell): Draft[] {
  const { failure } = turn;
  if (!failure) throw new Error('no failure to settle');
  const delayMs = shell.retryDelayMs(failure, turn.attempts);
  if (delayMs === null) {
    return [
      sessionError(failure, 'exhausted', state, shell),
      ...endWith(turn, { type: 'retries_exhausted' }, null, false, state, shell),
    ];
  }
  const timer = {
    timer_id: newId('timer', shell.nowMs()),
    at: new Date(shell.nowMs() + delayMs).toISOString(),
    reason: 'model_retry' as const,
  };
  return [
    sessionError(failure, 'retrying', state, shell),
    draft(shell.mint, state, 'session.thread_status_rescheduled', threadOf(state), {}),
    draft(shell.mint, state, 'session.status_rescheduled', {}, {}),
    draft(shell.mint, state, 'timer.set', timer, {}),
  ];
}

const errorTypes: Record<string, string> = {
  rate_limit: 'model_rate_limited_error',
  overloaded: 'model_overloaded_error',
  billing: 'billing_error',
};

function sessionError(
  failure: { kind: string; message: string },
  retry: 'retrying' | 'exhausted',
  state: SessionState,
  shell: Shell,
): Draft {
  const error = {
    type: errorTypes[failure.kind] ?? 'model_request_failed_error',
    message: failure.message,
    retry_status: { type: retry },
    reason: failure.kind,
  };
  return draft(shell.mint, state, 'session.error', { error }, {});
}

function endTurn(
  effect: Extract<RecordEffect, { type: 'end_turn' }>,
  state: SessionState,
  shell: Shell,
): Draft[] {
  const { turn, how } = effect;
  switch (how) {
    case 'done':
      return endWith(turn, { type: 'end_turn' }, null, false, state, shell);
    case 'interrupted':
      return endWith(turn, { type: 'end_turn' }, null, true, state, shell);
    case 'refused':
      return endWith(
        turn,
        { type: 'refusal' },
        { type: 'refusal', category: null, explanation: turn.refusal },
        false,
        state,
        shell,
      );
    case 'too_many_rounds': {
      const failure = {
        type: 'tool_use_limit_reached_error',
        message: `The agent made ${turn.rounds} model requests in one turn without coming to an end.`,
        retry_status: { type: 'exhausted' as const },
      };
      return [
        draft(shell.mint, state, 'session.error', { error: failure }, {}),
        ...endWith(turn, { type: 'retries_exhausted' }, null, false, state, shell),
      ];
    }
  }
}

export function endWith(
  turn: Turn,
  reason: StopReason,
  details: StopDetails,
  interrupted: boolean,
  state: SessionState,
  shell: Shell,
): Draft[] {
  const processed =
    state.interrupts.length > 0
      ? [draft(shell.mint, state, 'input.processed', { event_ids: state.interrupts }, {})]
      : [];
  return [
    draft(shell.mint, state, 'turn.ended', { turn_id: turn.id, stop_reason: reason, interrupted }, {}),
    ...processed,
    ...idle(state, shell, reason, details),
  ];
}

export function spanUsage(usage: TokenUsage | null) {
  return {
    input_tokens: usage?.inputTokens ?? 0,
    output_tokens: usage?.outputTokens ?? 0,
    cache_creation_input_tokens: usage?.cacheWriteTokens ?? 0,
    cache_read_input_tokens: usage?.cacheReadTokens ?? 0,
  };
}
