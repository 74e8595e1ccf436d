/**
 * The model request a state calls for. L7: pure, and a longer history only adds at the end, so prompts cache.
 */
import type { ModelRequest } from './model-request.ts';
import type { SessionState } from './state.ts';

/** Throws where there is no session yet: a bug of the caller. */
export function requestOf(state: SessionState): ModelRequest {
  if (!state.config) throw new Error('no session.created in this log');
  return { prefix: state.config.prefix, history: state.history };
}
