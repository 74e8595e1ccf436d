/**
 * What a script of the rehearsal is: a function from what the peer really received to what it answers. A script has no
 * memory of its own; it branches on the request, so that it goes on rightly after any crash, retry or fork.
 */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** What a tool returned, and what it was called with (null where that was no JSON object). */
export type ToolOutput = { callId: string; toolName: string; input: JsonObject | null; text: string };

export type Turn = {
  /** The input items of the request, as received. */
  input: JsonObject[];
  instructions: string;
  model: string;
  /** Names of the tools on offer. */
  tools: string[];
  /** Text of the last user message. */
  userText: string;
  /** Outputs since the last user message, in order; `allToolOutputs` has those before it too. */
  toolOutputs: ToolOutput[];
  allToolOutputs: ToolOutput[];
  lastToolOutput: ToolOutput | null;
  /** How many responses the model has given since the last user message. */
  step: number;
  /** How often this peer has seen this very body before: 0 at first, 1 at a first retry. */
  attempt: number;
  /** Requests with this `prompt_cache_key` before this one. */
  requestsBefore: number;
  headers: Record<string, string>;
  /** Settings of the run: `--arg name=value`, or `args` of `startRehearsal`. */
  args: Record<string, string>;
};

export type ToolCall = {
  name: string;
  /** An object is sent as JSON; a string is sent as it is. */
  arguments: JsonObject | string;
  /** Default: derived from the request. */
  callId?: string;
};

export type Usage = {
  inputTokens: number;
  cachedTokens: number;
  cacheWriteTokens: number;
  outputTokens: number;
  reasoningTokens: number;
};

/** An ordinary answer: reasoning, then text, then calls. An empty object is a response without any item. */
export type Answer = {
  reasoning?: string;
  text?: string;
  refusal?: string;
  toolCalls?: ToolCall[];
  /** Items of types of the future, sent as they are after the others. */
  extraItems?: JsonObject[];
  /** Events of types of the future, sent right after `response.in_progress`. */
  extraEvents?: JsonObject[];
  /** Replaces parts of the honest figures; null sends no usage at all. */
  usage?: Partial<Usage> | null;
  /** Ends as `response.incomplete`. */
  incomplete?: 'max_output_tokens' | 'content_filter';
  /** Ends as `response.failed`. */
  failed?: { code: string; message: string };
  /** An `error` event instead of an ending. */
  errorEvent?: { code: string | null; message: string };
  /** Characters in one delta event; default 16. */
  deltaChars?: number;
  /** Writes the stream in pieces of this many bytes, which splits multi-byte characters. */
  chunkBytes?: number;
  /** Waits before each event. */
  eventDelayMs?: number;
  /** Keeps the stream open for so long after its last event. */
  lingerMs?: number;
  /** Waits before the response headers, as a thinking model does. */
  latencyMs?: number;
};

export type Absurdity = 'huge_arguments' | 'unknown_tool' | 'duplicate_ids' | 'five_hundred' | 'not_json';

export type Misbehaviour =
  /** Sends `afterEvents` events (default 2; 0 sends not even headers), is silent, then goes on or closes. */
  | { stallMs: number; afterEvents?: number; thenContinue?: Answer }
  /** Destroys the connection after so many events of `reply`. */
  | { breakAfterEvents: number; reply?: Answer }
  /** Ends the stream in order after so many events, without an ending event. */
  | { endAfterEvents: number; reply?: Answer }
  | { status: number; headers?: Record<string, string>; body?: Json | string }
  | { malformed: 'json' | 'sse' | 'truncated-utf8'; reply?: Answer }
  | { absurdToolCalls: Absurdity };

/** The script did not get what it expects: answered as a 400 with this message, and recorded. */
export type Failed = { fail: string };

export type Reply = Answer | Misbehaviour | Failed;

export type Script = (turn: Turn) => Reply | Promise<Reply>;
