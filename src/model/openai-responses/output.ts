/**
 * Reads a response as it streams in: collects the output items verbatim, reads them neutrally, counts the tokens.
 * Knows nothing of HTTP. Unknown events are ignored and unknown items kept, because providers add both at any time;
 * nothing a provider sends makes these functions throw.
 */
import type { Json, JsonObject } from '../../protocol/json.ts';
import type { OutputItem, TokenUsage } from '../../session/model-request.ts';
import type { ModelOutcome, Preview } from '../model.ts';

/** How the provider says that a response ended; null while it goes on. */
export type Ending =
  | { type: 'completed'; response: JsonObject }
  | { type: 'incomplete'; reason: string; response: JsonObject }
  | { type: 'failed'; code: string | null; message: string; response: JsonObject };

export type Reading = {
  /** Takes one parsed event; answers what a viewer may see of it. */
  accept(event: unknown): Preview[];
  ending(): Ending | null;
  /** Items in the order of the response. What `output_item.done` said counts; the final summary fills the gaps. */
  items(): Json[];
};

export function createReading(): Reading {
  const done = new Map<number, Json>();
  let ending: Ending | null = null;

  function accept(event: unknown): Preview[] {
    if (!isObject(event)) return [];
    const index = typeof event.output_index === 'number' ? event.output_index : -1;
    switch (event.type) {
      case 'response.output_item.added':
        return itemStart(index, event.item);
      case 'response.output_text.delta':
      case 'response.refusal.delta':
        return typeof event.delta === 'string' ? [{ type: 'text_delta', index, text: event.delta }] : [];
      case 'response.output_item.done':
        if (index >= 0 && event.item !== undefined) done.set(index, event.item);
        return [];
      case 'response.completed':
      case 'response.incomplete':
      case 'response.failed':
        ending ??= readEnding(event.type, isObject(event.response) ? event.response : {});
        return [];
      default:
        return [];
    }
  }

  function items(): Json[] {
    const summary = ending?.response.output;
    const all = new Map<number, Json>(Array.isArray(summary) ? summary.entries() : []);
    for (const [index, item] of done) all.set(index, item);
    return [...all].sort(([left], [right]) => left - right).map(([, item]) => item);
  }

  return { accept, ending: () => ending, items };
}

function itemStart(index: number, item: Json | undefined): Preview[] {
  if (!isObject(item)) return [];
  if (item.type === 'message' || item.type === 'reasoning')
    return [{ type: 'item_start', index, item: item.type }];
  return [];
}

function readEnding(type: string, response: JsonObject): Ending {
  if (type === 'response.completed') return { type: 'completed', response };
  if (type === 'response.incomplete') {
    const details = response.incomplete_details;
    const reason = isObject(details) && typeof details.reason === 'string' ? details.reason : 'unknown';
    return { type: 'incomplete', reason, response };
  }
  const error = isObject(response.error) ? response.error : {};
  return {
    type: 'failed',
    code: typeof error.code === 'string' ? error.code : null,
    message: typeof error.message === 'string' ? error.message : 'the response failed without a message',
    response,
  };
}

type NeutralItem = OutputItem & { index: number };

/** The items that we know how to read, each with its index in `items`. */
export function readOutput(items: readonly Json[]): NeutralItem[] {
  return items.flatMap((item, index) => {
    const output = isObject(item) ? readItem(item) : null;
    return output === null ? [] : [{ ...output, index }];
  });
}

function readItem(item: JsonObject): OutputItem | null {
  switch (item.type) {
    case 'reasoning':
      return { type: 'reasoning' };
    case 'message':
      return readMessage(Array.isArray(item.content) ? item.content : []);
    case 'function_call':
      return readCall(item);
    default:
      return null;
  }
}

function readMessage(parts: readonly Json[]): OutputItem {
  const texts: string[] = [];
  const refusals: string[] = [];
  for (const part of parts) {
    if (!isObject(part)) continue;
    if (part.type === 'output_text' && typeof part.text === 'string') texts.push(part.text);
    if (part.type === 'refusal' && typeof part.refusal === 'string') refusals.push(part.refusal);
  }
  if (texts.length === 0 && refusals.length > 0) return { type: 'refusal', text: refusals.join('') };
  return { type: 'message', text: texts.join('') };
}

function readCall(item: JsonObject): OutputItem | null {
  if (typeof item.call_id !== 'string' || typeof item.name !== 'string') return null;
  const rawInput = typeof item.arguments === 'string' ? item.arguments : '';
  return {
    type: 'tool_call',
    providerCallId: item.call_id,
    name: item.name,
    input: parseInput(rawInput),
    rawInput,
  };
}

/** An object, or null where the model wrote anything else. No arguments at all are how models call without input. */
function parseInput(rawInput: string): JsonObject | null {
  if (rawInput.trim() === '') return {};
  try {
    const value: Json = JSON.parse(rawInput);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

export function stopOf(ending: Ending, output: readonly OutputItem[]): 'end' | 'max_output' | 'refusal' {
  if (ending.type === 'incomplete' && ending.reason === 'max_output_tokens') return 'max_output';
  if (ending.type === 'incomplete' && ending.reason === 'content_filter') return 'refusal';
  return output.some((item) => item.type === 'refusal') ? 'refusal' : 'end';
}

/**
 * Tokens as reported, or null where the provider said nothing usable. `input_tokens` of this wire holds the cached and
 * the newly written ones too; our parts add up to it.
 */
export function readUsage(response: JsonObject): TokenUsage | null {
  const usage = response.usage;
  if (!isObject(usage) || !isCount(usage.input_tokens) || !isCount(usage.output_tokens)) return null;
  const details = isObject(usage.input_tokens_details) ? usage.input_tokens_details : {};
  const cacheReadTokens = Math.min(count(details.cached_tokens), usage.input_tokens);
  const cacheWriteTokens = Math.min(count(details.cache_write_tokens), usage.input_tokens - cacheReadTokens);
  return {
    inputTokens: usage.input_tokens - cacheReadTokens - cacheWriteTokens,
    cacheReadTokens,
    cacheWriteTokens,
    outputTokens: usage.output_tokens,
  };
}

/**
 * Used where a provider completes a response and reports no usage (some compatible servers do): no tokenizer makes
 * more tokens than there are bytes, so money is never undercounted (G3).
 */
export function upperBoundUsage(request: readonly Uint8Array[], items: readonly Json[]): TokenUsage {
  return {
    inputTokens: request.reduce((sum, piece) => sum + piece.length, 0),
    cacheReadTokens: 0,
    cacheWriteTokens: 0,
    outputTokens: Buffer.byteLength(JSON.stringify(items)),
  };
}

export type Completed = Extract<ModelOutcome, { status: 'completed' }>;

export function completedOutcome(ending: Ending, items: Json[], request: readonly Uint8Array[]): Completed {
  const output = readOutput(items);
  const { id, model } = ending.response;
  return {
    status: 'completed',
    responseId: typeof id === 'string' ? id : null,
    servedModel: typeof model === 'string' ? model : '',
    items,
    output,
    stop: stopOf(ending, output),
    usage: readUsage(ending.response) ?? upperBoundUsage(request, items),
  };
}

function isCount(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function count(value: Json | undefined): number {
  return isCount(value) ? value : 0;
}

function isObject(value: unknown): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
