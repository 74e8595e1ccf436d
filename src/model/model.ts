/**
 * The model port: one folder per wire format implements it, all with the same file set
 * (request.ts, stream.ts, output.ts, errors.ts, index.ts).
 *
 * Contract
 * - `render` is pure: equal requests give equal bytes, and a longer history only adds to the front part (L7).
 * - `call` never throws for anything the provider or the network does; failures are values. It throws only on a bug.
 * - The caller owns `signal`. After abort, `call` resolves soon with kind `aborted` and no listener is called again.
 * - Listeners are called in the order of the stream, synchronously; what they saw is only a preview until `call`
 *   resolves `completed`.
 * - No key ever appears in a message, an error or an item (S1).
 */

import type { Json } from '../protocol/json.ts';
import type { ModelRequest, OutputItem, TokenUsage } from '../session/model-request.ts';

export type RenderedRequest = {
  /** The exact body bytes, in pieces so that a long prefix need not be copied. */
  body: Uint8Array[];
  /** sha256 (hex) over the body. */
  sha256: string;
};

export type Preview =
  /** A message or a thinking item began. `index` counts output items of this response. */
  | { type: 'item_start'; index: number; item: 'message' | 'reasoning' }
  | { type: 'text_delta'; index: number; text: string };

export type ModelErrorKind =
  | 'rate_limit'
  | 'overloaded'
  | 'server'
  | 'network'
  | 'broken_stream'
  | 'context_overflow'
  | 'auth'
  | 'billing'
  | 'invalid_request'
  | 'malformed'
  | 'aborted';

export type ModelError = {
  kind: ModelErrorKind;
  /** For people; without secrets and without the prompt. */
  message: string;
  httpStatus: number | null;
  /** What the provider asked us to wait, from its headers. */
  retryAfterMs: number | null;
  isRetryable: boolean;
};

export type ModelOutcome =
  | {
      status: 'completed';
      responseId: string | null;
      /** The model that answered, as the provider names it. */
      servedModel: string;
      /** Output items verbatim, to be sent back unchanged. */
      items: Json[];
      /** The same, read neutrally; one entry per item that we know how to read, with its index in `items`. */
      output: (OutputItem & { index: number })[];
      stop: 'end' | 'max_output' | 'refusal';
      usage: TokenUsage;
    }
  | { status: 'failed'; error: ModelError; usage: TokenUsage | null };

export type CallOptions = { signal: AbortSignal; onPreview: (preview: Preview) => void };

/** What one call may use, below what the prefix allows. */
export type CallLimits = { maxOutputTokens: number };

export interface Model {
  readonly provider: string;
  readonly wire: string;
  /** `limits` clamps this one call (G3) without touching the session's prefix; it stands behind the history. */
  render(request: ModelRequest, limits?: CallLimits): RenderedRequest;
  call(rendered: RenderedRequest, options: CallOptions): Promise<ModelOutcome>;
}

/** Rates in millionths of a US dollar per million tokens. */
export type Rates = {
  inputMicrosPerMillion: number;
  cacheReadMicrosPerMillion: number;
  cacheWriteMicrosPerMillion: number;
  outputMicrosPerMillion: number;
};

/** Null where unknown (G3: unknown is never zero). `longContext` holds for a whole request with more input than that. */
export type Price = Rates & { longContext?: { aboveInputTokens: number } & Rates };
