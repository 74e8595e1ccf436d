/**
 * What a model is asked, in our words: the neutral side of every wire format. Rendering it to bytes is `model/`'s work;
 * building it from a log is `render.ts`'s, and pure (L7).
 */
import type { ContentBlock } from '../protocol/content.ts';
import type { Json, JsonObject } from '../protocol/json.ts';

export type Effort = 'low' | 'medium' | 'high' | 'xhigh' | 'max';

/** A tool as the model sees it. `inputSchema` is a JSON Schema of type object. */
export type ToolSchema = { name: string; description: string; inputSchema: JsonObject };

/** One output item of a response, read neutrally. Indices agree with `ResponseItems.items` where one stands for one. */
export type OutputItem =
  | { type: 'reasoning' }
  | { type: 'message'; text: string }
  /** `input` is null where the arguments were not a JSON object; `rawInput` is always what the model sent. */
  | { type: 'tool_call'; providerCallId: string; name: string; input: JsonObject | null; rawInput: string }
  | { type: 'refusal'; text: string };

/** A response as the provider gave it. `items` go back verbatim, and only to the same provider, wire and model. */
export type ResponseItems = {
  provider: string;
  wire: string;
  model: string;
  items: Json[];
  output: OutputItem[];
};

export type HistoryItem =
  | { type: 'user'; content: ContentBlock[] }
  | ({ type: 'response' } & ResponseItems)
  | { type: 'tool_result'; providerCallId: string; content: ContentBlock[]; isError: boolean };

/** Everything of a request that stays the same for a whole session: pinned at creation, so that prompts cache (L7). */
export type RequestPrefix = {
  model: string;
  effort: Effort | null;
  instructions: string;
  tools: ToolSchema[];
  maxOutputTokens: number | null;
  /** Stable per session; providers route by it to the cache that holds the prefix. */
  cacheKey: string;
};

export type ModelRequest = { prefix: RequestPrefix; history: Iterable<HistoryItem> };

/** Tokens as the provider reported them. `inputTokens` excludes the cached ones. */
export type TokenUsage = {
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  outputTokens: number;
};

export const noUsage: TokenUsage = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
};
