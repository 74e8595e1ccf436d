/** Who sends a request: an API key as `Authorization: Bearer` (SDKs from 1.0) or `x-api-key` (older SDKs, curl). */

import type { Principal } from '../guard/identity.ts';
import { identify } from '../guard/identity.ts';
import type { Problem } from '../protocol/errors.ts';
import { problem } from '../protocol/errors.ts';
import type { Store } from '../store/store.ts';

/** One message for a missing, a malformed and an unknown key: an answer must not help to guess. */
const unauthenticated = problem(
  'unauthenticated',
  'The API key is missing or not valid. Send it as "Authorization: Bearer <key>" or "x-api-key: <key>".',
);

export async function authenticate(store: Store, headers: Headers): Promise<Principal | Problem> {
  const bearer = /^Bearer +(\S+)$/i.exec(headers.get('authorization') ?? '')?.[1];
  const key = bearer ?? headers.get('x-api-key');
  if (!key) return unauthenticated;
  return (await identify(store, key)) ?? unauthenticated;
}
