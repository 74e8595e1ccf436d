/** What a client is told of something that went wrong inside: whether to ask again, and nothing else (S1). */
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import { StoreUnavailable } from '../store/store.ts';
import type { ApiDeps } from './deps.ts';

export function failureOf(error: unknown, deps: Pick<ApiDeps, 'onBug'>, requestId: string): Problem {
  if (error instanceof StoreUnavailable) {
    return problem('unavailable', 'The store can not do its work now. Nothing was changed; try again.');
  }
  deps.onBug?.(error, requestId);
  return problem('internal', 'Something went wrong on our side.');
}
