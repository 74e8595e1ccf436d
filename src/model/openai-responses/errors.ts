/**
 * Everything that can go wrong with a call, classified once. The kind decides whether to retry; the message is for
 * people.
 *
 * Promises kept here
 * - S1: no key in a message, whatever the provider quoted; and nothing of the prompt beyond what a short provider
 *   message says.
 */
import type OpenAI from 'openai';
import type { DeadlineName } from '../deadlines.ts';
import type { ModelError, ModelErrorKind } from '../model.ts';
import { retryAfterMsOf } from '../retry-after.ts';
import { scrubText } from '../scrub.ts';

/** The SDK as imported, for its error classes. */
export type Sdk = { OpenAI: typeof OpenAI };

export type Failure =
  | { type: 'aborted' }
  | { type: 'deadline'; deadline: DeadlineName }
  | { type: 'thrown'; error: unknown }
  /** The bytes were not UTF-8, which the SDK would have repaired silently. */
  | { type: 'bad_bytes' }
  /** The stream ended in order, but no event said that the response did. */
  | { type: 'no_ending' }
  | { type: 'response_failed'; code: string | null; message: string };

const messageLimit = 400;

const retryable: ReadonlySet<ModelErrorKind> = new Set<ModelErrorKind>([
  'rate_limit',
  'overloaded',
  'server',
  'network',
  'broken_stream',
  'malformed',
]);

/** What the codes of the provider mean; they say more than the status, so they are asked first. */
const kindByCode: Readonly<Record<string, ModelErrorKind>> = {
  rate_limit_exceeded: 'rate_limit',
  slow_down: 'overloaded',
  server_is_overloaded: 'overloaded',
  overloaded_error: 'overloaded',
  engine_overloaded: 'overloaded',
  insufficient_quota: 'billing',
  quota_exceeded: 'billing',
  billing_hard_limit_reached: 'billing',
  billing_not_active: 'billing',
  usage_limit_reached: 'billing',
  usage_not_included: 'billing',
  context_length_exceeded: 'context_overflow',
  context_window_exceeded: 'context_overflow',
  string_above_max_length: 'context_overflow',
  invalid_api_key: 'auth',
  account_deactivated: 'auth',
  server_error: 'server',
  internal_error: 'server',
  vector_store_timeout: 'server',
  invalid_prompt: 'invalid_request',
  invalid_request_error: 'invalid_request',
  data_residency_mismatch: 'invalid_request',
  bio_policy: 'invalid_request',
  cyber_policy: 'invalid_request',
  misalignment_policy_violation: 'invalid_request',
  invalid_image: 'invalid_request',
  invalid_image_format: 'invalid_request',
  invalid_base64_image: 'invalid_request',
  invalid_image_url: 'invalid_request',
  invalid_image_mode: 'invalid_request',
  image_too_large: 'invalid_request',
  image_too_small: 'invalid_request',
  image_parse_error: 'invalid_request',
  image_content_policy_violation: 'invalid_request',
  image_file_too_large: 'invalid_request',
  unsupported_image_media_type: 'invalid_request',
  empty_image_file: 'invalid_request',
  failed_to_download_image: 'invalid_request',
  image_file_not_found: 'invalid_request',
  invalid_encrypted_content: 'invalid_request',
  model_not_found: 'invalid_request',
};

/** `nowMs` is needed only to read a `retry-after` that is a date. */
export function classify(failure: Failure, sdk: Sdk, apiKey: string, nowMs: number): ModelError {
  switch (failure.type) {
    case 'aborted':
      return modelError('aborted', 'the call was interrupted', apiKey);
    case 'deadline':
      return deadlineError(failure.deadline, apiKey);
    case 'bad_bytes':
      return modelError('malformed', 'the provider sent bytes that are not UTF-8', apiKey);
    case 'no_ending':
      return modelError('broken_stream', 'the stream ended before the response was complete', apiKey);
    case 'response_failed': {
      const kind = kindOfCode(failure.code) ?? kindOfMessage(failure.message) ?? 'server';
      return modelError(
        kind,
        `the response failed (${failure.code ?? 'no code'}): ${failure.message}`,
        apiKey,
      );
    }
    case 'thrown':
      return classifyThrown(failure.error, sdk, apiKey, nowMs);
  }
}

function deadlineError(deadline: DeadlineName, apiKey: string): ModelError {
  switch (deadline) {
    case 'connect':
      return modelError('network', 'no connection to the provider in time', apiKey);
    case 'first_byte':
      return modelError('network', 'the provider accepted the request and did not answer in time', apiKey);
    case 'idle':
    case 'drain':
      return modelError(
        'broken_stream',
        'the provider stopped sending in the middle of the response',
        apiKey,
      );
  }
}

function classifyThrown(error: unknown, sdk: Sdk, apiKey: string, nowMs: number): ModelError {
  const { OpenAI } = sdk;
  if (error instanceof OpenAI.APIConnectionError) return modelError('network', networkMessage(error), apiKey);
  if (error instanceof OpenAI.APIError) return classifyApiError(error, apiKey, nowMs);
  if (error instanceof SyntaxError) {
    return modelError('malformed', 'the provider sent a frame that is not JSON', apiKey);
  }
  // What is left comes out of the body of a response that had begun: the connection broke.
  return modelError('broken_stream', `the connection broke: ${causeOf(error)}`, apiKey);
}

function classifyApiError(
  error: InstanceType<typeof OpenAI.APIError>,
  apiKey: string,
  nowMs: number,
): ModelError {
  const status = error.status ?? null;
  const message = providerMessage(error);
  const kind =
    kindOfCode(error.code) ??
    kindOfType(error.type, status) ??
    kindOfMessage(message) ??
    kindOfStatus(status);
  const text = kind === 'auth' ? 'the provider refused the credential' : `the provider answered: ${message}`;
  const where = status === null ? 'in the stream' : `HTTP ${status}`;
  return {
    ...modelError(kind, `${text} (${where}${error.code ? `, ${error.code}` : ''})`, apiKey),
    httpStatus: status,
    retryAfterMs:
      error.headers === undefined ? null : retryAfterMsOf(error.headers, nowMs, kind === 'rate_limit'),
  };
}

function kindOfCode(code: string | null | undefined): ModelErrorKind | null {
  return code && Object.hasOwn(kindByCode, code) ? (kindByCode[code] ?? null) : null;
}

/** Types are coarser than codes: `invalid_request_error` also stands on a 401, so it never overrides a status. */
function kindOfType(type: string | undefined, status: number | null): ModelErrorKind | null {
  if (type === 'insufficient_quota') return 'billing';
  if (status !== null) return null;
  return kindOfCode(type);
}

function kindOfMessage(message: string): ModelErrorKind | null {
  if (/context (window|length)|maximum context|prompt is too long|input exceeds the/i.test(message)) {
    return 'context_overflow';
  }
  return /exceeded your current quota|billing/i.test(message) ? 'billing' : null;
}

function kindOfStatus(status: number | null): ModelErrorKind {
  if (status === null) return 'server';
  if (status === 401 || status === 403) return 'auth';
  if (status === 402) return 'billing';
  if (status === 413) return 'context_overflow';
  if (status === 429) return 'rate_limit';
  if (status === 503 || status === 529) return 'overloaded';
  if (status === 408 || status === 409 || status === 425 || status >= 500) return 'server';
  if (status >= 400) return 'invalid_request';
  return 'malformed';
}

function providerMessage(error: InstanceType<typeof OpenAI.APIError>): string {
  const body: unknown = error.error;
  if (body !== null && typeof body === 'object' && 'message' in body && typeof body.message === 'string') {
    return body.message;
  }
  return 'no message';
}

function networkMessage(error: Error): string {
  return `the provider could not be reached: ${causeOf(error.cause ?? error)}`;
}

/** The system's own code says most and holds no address with a credential in it. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown cause';
  if ('code' in error && typeof error.code === 'string') return error.code;
  return error.cause instanceof Error ? causeOf(error.cause) : error.message;
}

function modelError(kind: ModelErrorKind, message: string, apiKey: string): ModelError {
  const scrubbed = scrubText(message, apiKey);
  return {
    kind,
    message: scrubbed.length > messageLimit ? `${scrubbed.slice(0, messageLimit).toWellFormed()}…` : scrubbed,
    httpStatus: null,
    retryAfterMs: null,
    isRetryable: retryable.has(kind),
  };
}
