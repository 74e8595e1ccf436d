/** What a client is told of something that went wrong inside: whether to ask again, and nothing else (S1). */
import { KekUnavailable } from '../guard/vault/kek.ts';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import { StoreUnavailable } from '../store/store.ts';
import type { ApiDeps } from './deps.ts';

export function failureOf(error: unknown, deps: Pick<ApiDeps, 'onBug'>, requestId: string): Problem {
  if (error instanceof StoreUnavailable) {
    return problem('unavailable', 'The store can not do its work now. Nothing was changed; try again.');
  }
  if (error instanceof KekUnavailable) {
    return problem('unavailable', `The vault can not be opened now: ${error.message}. Nothing was changed.`);
  }
  deps.onBug?.(error, requestId);
  return problem('internal', 'Something went wrong on our side.');
}
