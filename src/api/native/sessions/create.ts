/**
 * Create a session: everything that shapes its requests is resolved and pinned here, in its first event (L7), together
 * with its first messages, in one append.
 */
import type { z } from 'zod';
import type { Environment } from '../../../protocol/environments.ts';
import type { Problem } from '../../../protocol/errors.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { isolationOf } from '../../../protocol/isolation.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { session, sessionCreateParams } from '../../../protocol/sessions.ts';
import type { Append } from '../../../store/store.ts';
import { draftOf, runningDrafts } from '../../input-drafts.ts';
import type { Answer, Call } from '../../operation.ts';
import { operation } from '../../operation.ts';
import type { MintId } from '../../request-key.ts';
import { keyReused, minterOf } from '../../request-key.ts';
import { inputDraft, summaryAt, toNewEvent } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';
import { shownEnvironment } from '../environments/body.ts';
import { chooseAgent } from './agent-choice.ts';
import { mountAll } from './mounts.ts';
import { vaultsProblem } from './vault-choice.ts';

type Params = z.infer<typeof sessionCreateParams>;
type CreateCall = Call<unknown, Params>;

export const createSession = operation({
  id: 'createSession',
  method: 'post',
  path: '/v1/sessions',
  tag: 'sessions',
  summary: 'Create a session',
  body: sessionCreateParams,
  response: session,
  problems: [
    'not_found',
    'environment_not_found',
    'environment_archived',
    'agent_model_required',
    'file_expired',
    'not_supported',
    'invalid_metadata',
    'idempotency_key_reused',
  ],
  async run(call) {
    const nowMs = call.deps.now();
    const mint = minterOf(call.key, nowMs);
    const id = mint('session', 'session');
    const earlier = await replay(call, id);
    if (earlier) return earlier;
    const append = await prepare(call, id, mint, nowMs);
    if (isProblem(append)) return append;
    const result = await call.deps.store.append(append);
    if (result.status === 'ok') return answer(call, id, result.head);
    return (
      (await replay(call, id)) ?? problem('unavailable', 'The session could not be recorded. Try again.')
    );
  },
});

/** What an earlier request with this key made. Its id is derived from the key, so the store knows whether it is there. */
async function replay(call: CreateCall, id: string): Promise<Answer | null> {
  if (call.key === null) return null;
  // A stream that is there is never created again: this only asks.
  if (!(await call.deps.store.stream(call.principal.tenant, id))) return null;
  const probe = await call.deps.store.append({
    ...call.principal.tenant,
    stream: id,
    create: true,
    request: call.key.request,
    events: [],
  });
  if (probe.status !== 'duplicate') return keyReused;
  const row = await call.deps.store.stream(call.principal.tenant, id);
  if (!row || row.erased)
    return problem('not_found', 'The session that this Idempotency-Key made has been deleted.');
  return answer(call, id, probe.head);
}

/** As the session was when it was created, whenever it is asked. */
async function answer(call: CreateCall, id: string, head: number): Promise<Answer> {
  const summary = await summaryAt(call.deps.store, id, head);
  return { body: sessionView(id, summary, Date.parse(summary.created_at)) };
}

async function prepare(call: CreateCall, id: string, mint: MintId, nowMs: number): Promise<Append | Problem> {
  const { deps, principal, body } = call;
  const agent = await chooseAgent(deps.store, principal.tenant, body.agent);
  if (isProblem(agent)) return agent;
  const environment = await chooseEnvironment(call);
  if (isProblem(environment)) return environment;
  const vaults = await vaultsProblem(deps.store, principal.tenant, body.vault_ids ?? []);
  if (vaults) return vaults;
  const context = { store: deps.store, tenant: principal.tenant, sessionId: id, mint, nowMs };
  const mounts = await mountAll(context, body.resources ?? []);
  if (isProblem(mounts)) return mounts;
  const { repository, paths, resources, uploads, copies } = mounts;
  const isolation = isolationOf((environment as unknown as Environment).config, deps.isolation);
  const pinned = deps.pinSession({
    sessionId: id,
    agent,
    environment: environment as unknown as Environment,
    isolation,
    repository,
    mounts: paths,
  });
  const thread = mint('thread', 'primary');
  const origin = { actor: principal.actor, thread };
  const created = inputDraft(
    'session.created',
    { title: body.title ?? null },
    {
      thread,
      agent: agent as unknown as JsonObject,
      environmentId: body.environment_id,
      environment,
      ...(body.vault_ids?.length ? { vaultIds: body.vault_ids } : {}),
      ...pinned,
      isolation,
      repository,
      uploads,
      metadata: body.metadata ?? {},
      resources,
    },
    { ...origin, id: mint('event', 'created'), audience: 'operator' },
  );
  const messages = (body.initial_events ?? []).map((event, index) =>
    draftOf(event, { ...origin, id: mint('event', `initial ${index}`) }),
  );
  return {
    ...principal.tenant,
    stream: id,
    create: true,
    ...(call.key ? { request: call.key.request } : {}),
    events: [
      toNewEvent(created),
      ...messages.map(toNewEvent),
      ...(messages.length > 0 ? runningDrafts(agent.name, origin, mint).map(toNewEvent) : []),
    ],
    resources: copies,
    ...(messages.length > 0 ? { wakeAt: nowMs } : {}),
  };
}

async function chooseEnvironment({ deps, principal, body }: CreateCall): Promise<JsonObject | Problem> {
  const row = await deps.store.resource(principal.tenant, 'environment', body.environment_id);
  if (!row)
    return problem(
      'environment_not_found',
      `environment_id: there is no environment ${body.environment_id}.`,
    );
  if (row.archivedAt !== null) {
    return problem(
      'environment_archived',
      'environment_id: this environment is archived and takes no new sessions.',
    );
  }
  return shownEnvironment(row);
}
