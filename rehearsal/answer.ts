/**
 * Turns what a script answers into the items and events of the real wire, in the real order. Everything here is a
 * function of the request and the answer: the same request gets the same ids.
 */
import { createHash, createHmac } from 'node:crypto';
import { tokensOf } from './prompt-cache.ts';
import type { Absurdity, Answer, Json, JsonObject, ToolCall, Usage } from './script.ts';

/** What was asked, as far as the answer shows it. */
export type Asked = {
  /** Seed of all ids. */
  sha256: string;
  body: JsonObject;
  bodyBytes: number;
  cachedTokens: number;
  atSeconds: number;
};

const defaultDeltaChars = 16;
/** Fixed, so that a restarted peer knows its own items again. It guards nothing but honesty. */
const sealKey = 'scriptorium-rehearsal';

export function sealReasoning(text: string): string {
  const payload = Buffer.from(text).toString('base64url');
  return `rehearsal.${payload}.${mac(payload)}`;
}

export function isSealed(encrypted: string): boolean {
  const [scheme, payload, seal, ...rest] = encrypted.split('.');
  return scheme === 'rehearsal' && payload !== undefined && rest.length === 0 && seal === mac(payload);
}

function mac(payload: string): string {
  return createHmac('sha256', sealKey).update(payload).digest('base64url');
}

export function idOf(asked: Asked, prefix: string, at: number): string {
  const digest = createHash('sha256').update(`${asked.sha256}/${prefix}/${at}`).digest('hex');
  return `${prefix}_${digest.slice(0, 32)}`;
}

export function itemsOf(asked: Asked, answer: Answer): JsonObject[] {
  const items: JsonObject[] = [];
  const next = (prefix: string): string => idOf(asked, prefix, items.length);
  if (answer.reasoning !== undefined) {
    items.push({
      id: next('rs'),
      type: 'reasoning',
      summary: [],
      encrypted_content: sealReasoning(answer.reasoning),
    });
  }
  if (answer.text !== undefined) items.push(message(next('msg'), textPart(answer.text)));
  if (answer.refusal !== undefined)
    items.push(message(next('msg'), { type: 'refusal', refusal: answer.refusal }));
  for (const call of answer.toolCalls ?? []) {
    const id = next('fc');
    items.push({
      id,
      type: 'function_call',
      status: 'completed',
      call_id: call.callId ?? idOf(asked, 'call', items.length),
      name: call.name,
      arguments: argumentsText(call),
    });
  }
  items.push(...(answer.extraItems ?? []));
  const last = items.at(-1);
  if (answer.incomplete !== undefined && last !== undefined && 'status' in last) last.status = 'incomplete';
  return items;
}

function message(id: string, part: JsonObject): JsonObject {
  return { id, type: 'message', status: 'completed', role: 'assistant', content: [part] };
}

function textPart(text: string): JsonObject {
  return { type: 'output_text', text, annotations: [], logprobs: [] };
}

function argumentsText(call: ToolCall): string {
  return typeof call.arguments === 'string' ? call.arguments : JSON.stringify(call.arguments);
}

export function absurdAnswer(absurdity: Absurdity): Answer {
  const bash = (command: string, callId?: string): ToolCall => ({
    name: 'bash',
    arguments: { command },
    ...(callId === undefined ? {} : { callId }),
  });
  switch (absurdity) {
    case 'huge_arguments':
      return { toolCalls: [bash('x'.repeat(1 << 20))], deltaChars: 1 << 16 };
    case 'unknown_tool':
      return { toolCalls: [{ name: 'summon_demon', arguments: { circle: 7 } }] };
    case 'duplicate_ids':
      return { toolCalls: [bash('true', 'call_same'), bash('false', 'call_same')] };
    case 'five_hundred':
      return { toolCalls: Array.from({ length: 500 }, (_, at) => bash(`echo ${at}`)), deltaChars: 4096 };
    case 'not_json':
      return { toolCalls: [{ name: 'bash', arguments: '{"command": "true' }] };
  }
}

export function usageOf(asked: Asked, answer: Answer, items: readonly JsonObject[]): JsonObject | null {
  if (answer.usage === null) return null;
  const reasoningTokens = tokensOf(Buffer.byteLength(answer.reasoning ?? ''));
  const honest: Usage = {
    inputTokens: tokensOf(asked.bodyBytes),
    cachedTokens: asked.cachedTokens,
    cacheWriteTokens: 0,
    outputTokens: reasoningTokens + items.reduce((sum, item) => sum + visibleTokens(item), 0),
    reasoningTokens,
  };
  const usage = { ...honest, ...answer.usage };
  return {
    input_tokens: usage.inputTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens, cache_write_tokens: usage.cacheWriteTokens },
    output_tokens: usage.outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    total_tokens: usage.inputTokens + usage.outputTokens,
  };
}

function visibleTokens(item: JsonObject): number {
  if (item.type === 'reasoning') return 0;
  const visible =
    item.type === 'function_call' ? [item.name ?? '', item.arguments ?? ''] : (item.content ?? []);
  return tokensOf(Buffer.byteLength(JSON.stringify(visible)));
}

/** The response object in one of its states. */
export function responseOf(
  asked: Asked,
  answer: Answer,
  status: string,
  items: readonly JsonObject[],
): JsonObject {
  const isOver = status !== 'in_progress';
  const { model, instructions, tools, max_output_tokens, prompt_cache_key, reasoning, store } = asked.body;
  return {
    id: idOf(asked, 'resp', 0),
    object: 'response',
    created_at: asked.atSeconds,
    status,
    background: false,
    error: status === 'failed' ? (answer.failed ?? null) : null,
    incomplete_details: status === 'incomplete' ? { reason: answer.incomplete ?? 'max_output_tokens' } : null,
    instructions: instructions ?? null,
    max_output_tokens: max_output_tokens ?? null,
    metadata: {},
    model: model ?? '',
    output: isOver ? [...items] : [],
    parallel_tool_calls: true,
    previous_response_id: null,
    prompt_cache_key: prompt_cache_key ?? null,
    reasoning: reasoning ?? { effort: null },
    store: store ?? true,
    temperature: 1,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    // As the real one does, three times per response; a client pays for parsing it.
    tools: tools ?? [],
    top_p: 1,
    truncation: 'disabled',
    usage: isOver ? usageOf(asked, answer, items) : null,
  };
}

/** All events of a stream, numbered. */
export function* eventsOf(asked: Asked, answer: Answer): Generator<JsonObject> {
  const items = itemsOf(asked, answer);
  let sequence = 0;
  for (const event of unnumbered(asked, answer, items)) {
    yield { ...event, sequence_number: sequence };
    sequence += 1;
  }
}

function* unnumbered(asked: Asked, answer: Answer, items: readonly JsonObject[]): Generator<JsonObject> {
  const begun = responseOf(asked, answer, 'in_progress', items);
  yield { type: 'response.created', response: begun };
  yield { type: 'response.in_progress', response: begun };
  yield* answer.extraEvents ?? [];
  for (const [index, item] of items.entries())
    yield* itemEvents(index, item, answer.deltaChars ?? defaultDeltaChars);
  if (answer.errorEvent !== undefined) {
    yield { type: 'error', ...answer.errorEvent, param: null };
    return;
  }
  const status =
    answer.failed !== undefined ? 'failed' : answer.incomplete !== undefined ? 'incomplete' : 'completed';
  yield { type: `response.${status}`, response: responseOf(asked, answer, status, items) };
}

function* itemEvents(index: number, item: JsonObject, deltaChars: number): Generator<JsonObject> {
  const place = { item_id: item.id ?? '', output_index: index };
  yield { type: 'response.output_item.added', output_index: index, item: begunItem(item) };
  if (item.type === 'function_call') {
    const text = String(item.arguments);
    for (const delta of slices(text, deltaChars)) {
      yield { type: 'response.function_call_arguments.delta', ...place, delta };
    }
    yield { type: 'response.function_call_arguments.done', ...place, name: item.name ?? '', arguments: text };
  }
  if (item.type === 'message' && Array.isArray(item.content)) {
    for (const [at, part] of item.content.entries()) {
      yield* partEvents({ ...place, content_index: at }, part as JsonObject, deltaChars);
    }
  }
  yield { type: 'response.output_item.done', output_index: index, item };
}

function* partEvents(place: JsonObject, part: JsonObject, deltaChars: number): Generator<JsonObject> {
  const isRefusal = part.type === 'refusal';
  const text = String(isRefusal ? part.refusal : part.text);
  const empty: JsonObject = isRefusal ? { type: 'refusal', refusal: '' } : textPart('');
  const name = isRefusal ? 'response.refusal' : 'response.output_text';
  const extra: JsonObject = isRefusal ? {} : { logprobs: [] };
  yield { type: 'response.content_part.added', ...place, part: empty };
  for (const delta of slices(text, deltaChars)) yield { type: `${name}.delta`, ...place, delta, ...extra };
  yield { type: `${name}.done`, ...place, [isRefusal ? 'refusal' : 'text']: text, ...extra };
  yield { type: 'response.content_part.done', ...place, part };
}

function begunItem(item: JsonObject): JsonObject {
  if (item.type === 'message') return { ...item, status: 'in_progress', content: [] };
  if (item.type === 'function_call') return { ...item, status: 'in_progress', arguments: '' };
  // The real one announces reasoning with an encrypted content that is not the final one.
  if (item.type === 'reasoning') return { ...item, encrypted_content: sealReasoning('begun') };
  return item;
}

/** By code points, as real deltas come: a character outside the BMP is never cut in two by an event. */
function* slices(text: string, size: number): Generator<Json & string> {
  let slice = '';
  let length = 0;
  for (const character of text) {
    slice += character;
    length += 1;
    if (length < size) continue;
    yield slice;
    slice = '';
    length = 0;
  }
  if (slice !== '') yield slice;
}
