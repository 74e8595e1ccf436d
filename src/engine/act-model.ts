/**
 * Calling the model: from a durable intent to the facts of its outcome. Previews go out live and are never stored; each
 * attempt mints fresh ids for them, and the final events carry the same ids (§5.2 of the protocol).
 */

import type { Model, ModelOutcome, Preview, RenderedRequest } from '../model/model.ts';
import type { Json } from '../protocol/json.ts';
import type { PreviewFrame } from '../protocol/previews.ts';
import type { Draft } from '../session/events.ts';
import type { OutputItem, TokenUsage } from '../session/model-request.ts';
import type { SessionState } from '../session/state.ts';
import type { Mint } from './draft.ts';
import { draft } from './draft.ts';
import { spanUsage } from './realize.ts';

export type ModelAct = {
  model: Model;
  rendered: RenderedRequest;
  /** Event id of the span's start; also the reservation's cause. */
  startId: string;
  callId: string;
  signal: AbortSignal;
  onPreview: (frame: PreviewFrame) => void;
  costMicros: (servedModel: string, usage: TokenUsage) => number | null;
};

export type ModelFacts = { drafts: Draft[]; settled: { id: string; costMicros: number | null } };

/** A response with more calls than this, or with two of one id, is no work order but noise. */
const maxCallsPerResponse = 128;
/** No tool needs more; and thousands of levels overflow the stack of whatever writes JSON, again and again. */
const maxInputDepth = 256;

export async function callModel(act: ModelAct, state: SessionState, mint: Mint): Promise<ModelFacts> {
  const ids = new Map<number, string>();
  const idAt = (index: number): string => {
    const known = ids.get(index) ?? mint.newEventId();
    ids.set(index, known);
    return known;
  };
  const outcome = await act.model.call(act.rendered, {
    signal: act.signal,
    onPreview: (preview) => act.onPreview(frameOf(preview, act.startId, idAt)),
  });
  if (outcome.status === 'failed') {
    const cost = outcome.usage ? act.costMicros(state.config?.prefix.model ?? '', outcome.usage) : 0;
    const { error, usage } = outcome;
    return failed(act, { error, usage, costMicros: cost, shownIds: [...ids.values()] }, state, mint);
  }
  const { items, output: read } = asReadBack(outcome);
  const noise = noiseIn(read);
  const costMicros =
    act.costMicros(outcome.servedModel, outcome.usage) ??
    act.costMicros(state.config?.prefix.model ?? '', outcome.usage);
  if (noise) {
    const error = {
      kind: 'malformed' as const,
      message: noise,
      httpStatus: null,
      retryAfterMs: null,
      isRetryable: true,
    };
    const { usage } = outcome;
    return failed(act, { error, usage, costMicros, shownIds: [...ids.values()] }, state, mint);
  }
  const output = read.map((item) => ({ ...item, eventId: idAt(item.index) }));
  const response = draft(
    mint,
    state,
    'model.response',
    { model_request_start_id: act.startId },
    {
      call: act.callId,
      causation: act.startId,
      private: {
        provider: act.model.provider,
        wire: act.model.wire,
        model: state.config?.prefix.model ?? '',
        items,
        output,
        stop: outcome.stop,
        usage: outcome.usage,
        costMicros,
      },
    },
  );
  return { drafts: [response], settled: { id: act.callId, costMicros } };
}

type Answered = Pick<Extract<ModelOutcome, { status: 'completed' }>, 'items' | 'output'>;

/**
 * L7, G2: the answer exactly as the log will give it back (a number may be none that JSON holds), so that what is folded
 * now, what a person approves and what another engine runs are the same. Arguments too deep to be written are no object.
 */
function asReadBack({ items, output }: Answered): Answered {
  const writable = output.map((item) =>
    item.type === 'tool_call' && isDeeper(item.input, maxInputDepth) ? { ...item, input: null } : item,
  );
  return JSON.parse(JSON.stringify({ items, output: writable })) as Answered;
}

function isDeeper(value: Json, levels: number): boolean {
  if (value === null || typeof value !== 'object') return false;
  return levels === 0 || Object.values(value).some((member) => isDeeper(member, levels - 1));
}

function frameOf(preview: Preview, startId: string, idAt: (index: number) => string): PreviewFrame {
  const id = idAt(preview.index);
  if (preview.type === 'item_start') {
    const type = preview.item === 'message' ? 'agent.message' : 'agent.thinking';
    return { type: 'event_start', event: { type, id }, model_request_start_id: startId };
  }
  const content = { type: 'text' as const, text: preview.text };
  return { type: 'event_delta', event_id: id, delta: { type: 'content_delta', index: 0, content } };
}

function noiseIn(output: OutputItem[]): string | null {
  const calls = output.filter((item) => item.type === 'tool_call');
  if (calls.length > maxCallsPerResponse)
    return `The model asked for ${calls.length} tool calls in one response.`;
  if (new Set(calls.map((call) => call.providerCallId)).size < calls.length) {
    return 'The model gave the same call id to two tool calls.';
  }
  return null;
}

export type Failure = {
  callId: string;
  startId: string;
  error: { kind: string; message: string; isRetryable: boolean; retryAfterMs: number | null };
  usage: TokenUsage | null;
  costMicros: number | null;
  /** Ids of what streams showed of it; null where nobody knows. */
  shownIds: string[] | null;
};

function failed(
  act: ModelAct,
  failure: Omit<Failure, 'callId' | 'startId'>,
  state: SessionState,
  mint: Mint,
): ModelFacts {
  const { callId, startId } = act;
  const drafts = failureDrafts({ callId, startId, ...failure }, state, mint);
  return { drafts, settled: { id: callId, costMicros: failure.costMicros } };
}

/** An attempt that gave nothing: the failure for the engine, the closed span and what not to wait for for everyone. */
export function failureDrafts(failure: Failure, state: SessionState, mint: Mint): Draft[] {
  const {
    callId,
    startId: model_request_start_id,
    error,
    usage,
    costMicros: cost_micros,
    shownIds,
  } = failure;
  const { kind, message, isRetryable, retryAfterMs } = error;
  const causation = model_request_start_id;
  const superseded = { model_request_start_id, event_ids: shownIds };
  return [
    draft(
      mint,
      state,
      'model.failed',
      { model_request_start_id, kind, message },
      { call: callId, causation, private: { isRetryable, retryAfterMs, usage } },
    ),
    ...(shownIds?.length === 0 ? [] : [draft(mint, state, 'preview.superseded', superseded, { causation })]),
    draft(
      mint,
      state,
      'span.model_request_end',
      { model_request_start_id, is_error: true, model_usage: spanUsage(usage), cost_micros },
      { causation },
    ),
  ];
}
