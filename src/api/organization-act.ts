/**
 * A change of a resource: new rows and the event that records them, in one transaction on the organisation's stream.
 * With a request key the event also keeps the answer, sealed, so that a repeated request gets the very same one.
 */

import type { Principal } from '../guard/identity.ts';
import type { Problem } from '../protocol/errors.ts';
import { isProblem, problem } from '../protocol/errors.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Append, AppendResult, ResourcePut } from '../store/store.ts';
import type { ApiDeps } from './deps.ts';
import type { Answer } from './operation.ts';
import type { MintId, RequestKey } from './request-key.ts';
import { keyReused, minterOf } from './request-key.ts';

export type Change = {
  /** The organisation stream's own event types, `agent.created` and the like; null: nothing to change. */
  event: { type: string; facts: JsonObject } | null;
  resources?: ResourcePut[];
  deleteResources?: { kind: string; id: string }[];
  /** Head of the organisation's stream before anything was read; the change holds only under it. */
  expectedSeq?: number;
  answer: JsonObject;
};

type Act = { deps: ApiDeps; principal: Principal; key: RequestKey | null };

/** Rounds against others who change the same row at the same time. */
const maxRounds = 16;

/** Decides with `prepare` and commits; decides again where a row moved meanwhile. */
export async function changeOrganization(
  act: Act,
  prepare: (mint: MintId, nowMs: number) => Promise<Change | Problem>,
): Promise<Answer> {
  const nowMs = act.deps.now();
  const mint = minterOf(act.key, nowMs);
  const earlier = await replay(act, mint);
  if (earlier) return earlier;
  for (let round = 0; round < maxRounds; round++) {
    const change = await prepare(mint, nowMs);
    if (isProblem(change)) return change;
    if (change.event === null && act.key === null) return { body: change.answer };
    const result = await commit(act, change, mint);
    if (result.status === 'ok') return { body: change.answer };
    if (result.status === 'duplicate') return (await replay(act, mint)) ?? lost();
    if (result.status === 'moved') continue;
    if (result.status !== 'conflict') return lost();
    if (result.reason === 'request') return keyReused;
    if (result.reason === 'name') return problem('conflict', 'This name is taken. Choose another one.');
    if (result.reason !== 'version') return lost();
  }
  return problem('contended', 'Others are changing the same resource. Try again.');
}

function lost(): Problem {
  return problem('unavailable', 'The change could not be recorded. Try again.');
}

async function commit(act: Act, change: Change, mint: MintId): Promise<AppendResult> {
  const { organization, project } = act.principal.tenant;
  const append: Append = {
    organization,
    project,
    stream: organization,
    events: [
      {
        id: mint('event', 'act'),
        type: change.event?.type ?? 'request.answered',
        actor: act.principal.actor,
        thread: null,
        turn: null,
        call: null,
        causation: null,
        audience: 'operator',
        public: change.event?.facts ?? {},
        private: act.key ? { request_hash: act.key.request.hash, answer: change.answer } : null,
      },
    ],
    ...(act.key ? { request: act.key.request } : {}),
    ...(change.resources ? { resources: change.resources } : {}),
    ...(change.deleteResources ? { deleteResources: change.deleteResources } : {}),
    ...(change.expectedSeq === undefined ? {} : { expectedSeq: change.expectedSeq }),
  };
  const result = await act.deps.store.append(append);
  if (result.status !== 'conflict' || result.reason !== 'missing') return result;
  // The organisation's very first act; if another process was quicker, its stream is there now.
  const created = await act.deps.store.append({ ...append, create: true });
  return created.status === 'conflict' && created.reason === 'exists'
    ? act.deps.store.append(append)
    : created;
}

/** The answer of an earlier request with this key; null where there was none. */
async function replay(act: Act, mint: MintId): Promise<Answer | null> {
  if (act.key === null) return null;
  const event = await act.deps.store.readById(act.principal.tenant.organization, mint('event', 'act'));
  if (!event?.private) return null;
  if (event.private.request_hash !== act.key.request.hash) return keyReused;
  return { body: event.private.answer as JsonObject };
}
