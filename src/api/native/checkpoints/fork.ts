/**
 * Ours: a new session that was another one up to a checkpoint. Its log begins with a copy of the other's events, under its
 * own key (docs/design/checkpoints.md says why), and goes on by itself; the engine gives it the workspace before anything
 * runs.
 */
import type { z } from 'zod';
import { forkParams } from '../../../protocol/checkpoints.ts';
import { isProblem, type Problem, problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { session } from '../../../protocol/sessions.ts';
import type { EventBodies } from '../../../session/events.ts';
import type { SessionConfig } from '../../../session/state.ts';
import type { Append, NewEvent, ResourcePut, Store, StoredEvent } from '../../../store/store.ts';
import { draftOf, runningDrafts } from '../../input-drafts.ts';
import type { Answer, Call } from '../../operation.ts';
import { operation } from '../../operation.ts';
import type { MintId } from '../../request-key.ts';
import { keyReused, minterOf } from '../../request-key.ts';
import { type FoundSession, findSession, inputDraft, summaryAt, toNewEvent } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';
import { type ForkPoint, forkPoint } from './fork-point.ts';

type ForkCall = Call<unknown, z.infer<typeof forkParams>>;

/** One append writes the whole copy: neither a reader nor a crash finds half a session. */
const maxCopiedEvents = 20_000;
const readBatch = 1_000;

export const forkSession = operation({
  id: 'forkSession',
  method: 'post',
  path: '/v1/sessions/{session_id}/fork',
  tag: 'checkpoints',
  summary: 'Create a session that was this one up to a checkpoint',
  body: forkParams,
  response: session,
  problems: ['not_found', 'invalid_request', 'conflict', 'too_large', 'idempotency_key_reused'],
  async run(call) {
    const nowMs = call.deps.now();
    const mint = minterOf(call.key, nowMs);
    const id = mint('session', 'fork');
    const earlier = await replay(call, id);
    if (earlier) return earlier;
    const append = await prepare(call, id, mint, nowMs);
    if (isProblem(append)) return append;
    const result = await call.deps.store.append(append);
    if (result.status === 'ok') return answer(call, id, result.head);
    return (await replay(call, id)) ?? problem('unavailable', 'The fork could not be recorded. Try again.');
  },
});

/** What an earlier request with this key made. */
async function replay(call: ForkCall, id: string): Promise<Answer | null> {
  const { deps, principal, key } = call;
  if (key === null || !(await deps.store.stream(principal.tenant, id))) return null;
  const asked = { ...principal.tenant, stream: id, create: true, request: key.request, events: [] };
  const probe = await deps.store.append(asked);
  if (probe.status !== 'duplicate') return keyReused;
  const row = await deps.store.stream(principal.tenant, id);
  if (!row || row.erased)
    return problem('not_found', 'The session that this Idempotency-Key made has been deleted.');
  return answer(call, id, probe.head);
}

async function answer(call: ForkCall, id: string, head: number): Promise<Answer> {
  const summary = await summaryAt(call.deps.store, id, head);
  return { body: sessionView(id, summary, Date.parse(summary.created_at)) };
}

async function prepare(call: ForkCall, id: string, mint: MintId, nowMs: number): Promise<Append | Problem> {
  const { deps, principal, body } = call;
  const parent = await findSession(call);
  if (isProblem(parent)) return parent;
  const state = await call.folded.fold(parent.id);
  const at = await forkPoint(deps.store, parent.id, state, body);
  if (isProblem(at)) return at;
  if (at.seq > maxCopiedEvents)
    return problem(
      'too_large',
      `A fork copies at most ${maxCopiedEvents} events; this one would copy ${at.seq}.`,
    );
  const { config } = state;
  if (!config) return problem('not_found', `There is no session ${parent.id}.`);
  const files = await copyFiles(call, config.resources, { id, mint, nowMs });
  const copied = await copyEvents(deps.store, parent.id, at.seq);
  const own = ownEvents(call, { parent, at, config, mint, resources: files.resources });
  return {
    ...principal.tenant,
    stream: id,
    create: true,
    ...(call.key ? { request: call.key.request } : {}),
    events: [...copied, ...own],
    resources: files.copies,
    // The workspace is taken at once: the parent may be gone when the first message comes.
    wakeAt: nowMs,
  };
}

async function copyEvents(store: Store, stream: string, upTo: number): Promise<NewEvent[]> {
  const copied: NewEvent[] = [];
  while (copied.length < upTo) {
    const events = await store.read(stream, copied.length, Math.min(readBatch, upTo - copied.length));
    if (events.length === 0) throw new Error(`${stream} ends before ${upTo}`);
    copied.push(...events.map(copyOf));
  }
  return copied;
}

/** With its id: what other events name by it goes on being named. */
function copyOf(event: StoredEvent): NewEvent {
  const { id, type, actor, thread, turn, call, causation, audience } = event;
  return {
    id,
    type,
    actor,
    thread,
    turn,
    call,
    causation,
    audience,
    public: event.public,
    private: event.private,
  };
}

type Own = {
  parent: FoundSession;
  at: ForkPoint;
  config: SessionConfig;
  mint: MintId;
  resources: JsonObject[];
};

function ownEvents(call: ForkCall, { parent, at, config, mint, resources }: Own): NewEvent[] {
  const { principal, body } = call;
  const { thread } = config;
  const origin = { actor: principal.actor, thread };
  const from = { from_session_id: parent.id, at_event_id: at.eventId, checkpoint_id: at.id };
  const forked = inputDraft(
    'session.forked',
    from,
    { resources },
    { ...origin, id: mint('event', 'forked') },
  );
  const change: EventBodies['session.updated']['P'] = {
    ...(body.title == null ? {} : { title: body.title }),
    ...(body.metadata == null ? {} : { metadata: body.metadata }),
  };
  const updated = inputDraft('session.updated', change, null, { ...origin, id: mint('event', 'updated') });
  const messages = (body.initial_events ?? []).map((event, index) =>
    draftOf(event, { ...origin, id: mint('event', `initial ${index}`) }),
  );
  const running = messages.length > 0 ? runningDrafts(String(config.agent.name), origin, mint) : [];
  const changes = Object.keys(change).length > 0 ? [updated] : [];
  return [forked, ...changes, ...messages, ...running].map(toNewEvent);
}

type Target = { id: string; mint: MintId; nowMs: number };

/** Files of the parent alone go with it: the fork gets rows of its own for the same content. */
async function copyFiles({ deps, principal }: ForkCall, resources: JsonObject[], target: Target) {
  const time = new Date(target.nowMs).toISOString();
  const copies: ResourcePut[] = [];
  const own: JsonObject[] = [];
  for (const [index, resource] of resources.entries()) {
    const file = await deps.store.resource(principal.tenant, 'file', String(resource.file_id));
    const id = target.mint('file', `resource ${index}`);
    own.push({
      ...resource,
      id: target.mint('sessionResource', `resource ${index}`),
      ...(file ? { file_id: id } : {}),
      ...{ created_at: time, updated_at: time },
    });
    if (!file) continue;
    const scope = { type: 'session', id: target.id };
    copies.push({
      ...{
        kind: 'file',
        id,
        version: 1,
        createdAt: time,
        updatedAt: time,
        archivedAt: null,
        uniqueName: null,
      },
      body: { ...file.body, id, scope, expires_at: null },
    });
  }
  return { resources: own, copies };
}
