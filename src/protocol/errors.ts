/**
 * Every error a client can get (managed-agents-protocol.md §1.8): the closed list of kinds, each with its HTTP status,
 * its `error.type`, its `error_code` where one is published, and whether asking again can help.
 *
 * The published SDK retries 408, 409, 429 and 5xx by itself. A conflict of meaning stays a conflict, so it says
 * `x-should-retry: false`, or the SDK would send it twice more for nothing.
 */
import type { JsonObject } from './json.ts';

type ErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'conflict_error'
  | 'request_too_large'
  | 'api_error';

type Entry = { status: number; type: ErrorType; code?: string; shouldRetry?: boolean };

export const errorKinds = {
  invalid_request: { status: 400, type: 'invalid_request_error' },
  /** What the protocol knows and this version does not do yet. */
  not_supported: { status: 400, type: 'invalid_request_error', code: 'not_supported' },
  /** A limit of an environment that is above the server's maximum, or that nothing could run in. */
  limit_out_of_range: { status: 400, type: 'invalid_request_error', code: 'limit_out_of_range' },
  invalid_metadata: { status: 400, type: 'invalid_request_error', code: 'invalid_metadata' },
  agent_model_required: { status: 400, type: 'invalid_request_error', code: 'agent_model_required' },
  environment_archived: { status: 400, type: 'invalid_request_error', code: 'environment_archived' },
  invalid_config_type_change: {
    status: 400,
    type: 'invalid_request_error',
    code: 'invalid_config_type_change',
  },
  body_encoding_invalid: {
    status: 400,
    type: 'invalid_request_error',
    code: 'request_body_encoding_invalid',
  },
  body_encoding_unsupported: {
    status: 400,
    type: 'invalid_request_error',
    code: 'request_body_encoding_unsupported',
  },
  unsupported_charset: { status: 400, type: 'invalid_request_error', code: 'unsupported_charset' },
  method_not_allowed: { status: 405, type: 'invalid_request_error', code: 'method_not_allowed' },
  unauthenticated: { status: 401, type: 'authentication_error' },
  forbidden: { status: 403, type: 'permission_error' },
  not_found: { status: 404, type: 'not_found_error' },
  environment_not_found: { status: 404, type: 'not_found_error', code: 'environment_not_found' },
  file_expired: { status: 404, type: 'not_found_error', code: 'file_expired' },
  conflict: { status: 409, type: 'conflict_error', shouldRetry: false },
  idempotency_key_reused: {
    status: 409,
    type: 'conflict_error',
    code: 'idempotency_key_reused',
    shouldRetry: false,
  },
  /** Others wrote faster than we could decide; nothing was changed. */
  contended: { status: 409, type: 'conflict_error', code: 'contended', shouldRetry: true },
  too_large: { status: 413, type: 'request_too_large', shouldRetry: false },
  internal: { status: 500, type: 'api_error' },
  /** The store or the hands cannot do their work now. */
  unavailable: { status: 503, type: 'api_error', shouldRetry: true },
} as const satisfies Record<string, Entry>;

export type ErrorKind = keyof typeof errorKinds;

/** An ending that is not the one asked for. Operations return it; nothing throws it. */
export type Problem = { problem: ErrorKind; message: string };

export function problem(kind: ErrorKind, message: string): Problem {
  return { problem: kind, message };
}

export function isProblem(value: object): value is Problem {
  return 'problem' in value;
}

/** The body every error has on the wire. */
export function errorEnvelope(error: Problem, requestId: string): JsonObject {
  const kind: Entry = errorKinds[error.problem];
  const details = kind.code === undefined ? {} : { details: { error_code: kind.code } };
  return {
    type: 'error',
    error: { type: kind.type, message: error.message, ...details },
    request_id: requestId,
  };
}
