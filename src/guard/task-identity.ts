/**
 * Task-scoped identity: a token that speaks for one session and nothing else, for what leaves its sandbox (the ticket of
 * the gateway, calls back to us).
 *
 * - S1, S4: opaque, 256 bits; only its hash is stored. Unknown, replaced, revoked, idle, expired, or of a session that is
 *   over: it is nobody's.
 * - It survives a takeover: it is derived from the server's key and a random epoch kept in its row, so the next engine has
 *   the same token without anybody handing it over (`reissue`), and the database alone has none.
 * - One a session: minting again (another policy, another agent) ends the one before.
 * - Uses are written down coarsely: an idle token may end up to an eighth of its idle time early, never late.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { AppendResult, Resource, ResourcePut, Store, Tenant } from '../store/store.ts';

export type TaskClaims = {
  session: string;
  agent: { id: string; version: number };
  /** What the session works on; null where it has no repository. */
  repository: string | null;
  /** Of the network policy it was minted under, hex. */
  policyHash: string;
  /** Unused for so long, it is worth nothing. */
  idleMs: number;
  /** Since the epoch; it is worth nothing from then on. */
  expiresAtMs: number;
};

export type TaskIdentity = { tenant: Tenant; claims: TaskClaims };

export type TaskRefusal = { refused: 'unknown' | 'idle' | 'expired' | 'session_over'; message: string };

/** A vault is one. */
export type TaskKeys = {
  store: Store;
  derive(purpose: string, text: string): Buffer;
  nowMs(): number;
};

const kind = 'task_identity';
const prefix = 'sct-';
const form = /^sct-[A-Za-z0-9_-]{43}$/;
const maxRounds = 16;

type Body = TaskClaims & { epoch: string; sha256: string; usedAtMs: number };

/** Ends the session's token before this one. `actor` is for the record. */
export async function mintTask(
  keys: TaskKeys,
  { tenant, claims, actor }: TaskIdentity & { actor: string },
): Promise<{ token: string }> {
  const epoch = randomBytes(16).toString('hex');
  const token = tokenOf(keys, tenant, claims.session, epoch);
  const sha256 = hashOf(token);
  await change(keys, tenant, claims.session, (before) => {
    const time = new Date(keys.nowMs()).toISOString();
    const body: Body = { ...claims, epoch, sha256, usedAtMs: keys.nowMs() };
    return {
      put: {
        ...{ kind, id: claims.session, version: (before?.version ?? 0) + 1, body: body as JsonObject },
        ...{ createdAt: before?.createdAt ?? time, updatedAt: time, archivedAt: null, uniqueName: sha256 },
      },
      event: ['task_identity.minted', { policy_hash: claims.policyHash, agent: claims.agent }, actor],
    };
  });
  return { token };
}

/** The session's token again, for an engine that took it over. */
export async function reissueTask(
  keys: TaskKeys,
  tenant: Tenant,
  session: string,
): Promise<{ token: string } | TaskRefusal> {
  const row = await keys.store.resource(tenant, kind, session);
  if (row === null || row.archivedAt !== null) return unknown;
  const token = tokenOf(keys, tenant, session, bodyOf(row).epoch);
  const verified = await verifyTask(keys, token);
  return 'refused' in verified ? verified : { token };
}

/** Who presents it. Using it keeps it from going idle. */
export async function verifyTask(keys: TaskKeys, presented: string): Promise<TaskIdentity | TaskRefusal> {
  if (!form.test(presented)) return unknown;
  const hash = hashOf(presented);
  const row = await keys.store.resourceByName(kind, hash);
  if (row === null || row.archivedAt !== null) return unknown;
  const body = bodyOf(row);
  // The lookup found it by its hash already; comparing again in constant time trusts no collation.
  if (!timingSafeEqual(Buffer.from(body.sha256, 'hex'), Buffer.from(hash, 'hex'))) return unknown;
  const { epoch: _epoch, sha256: _sha256, usedAtMs, ...claims } = body;
  const nowMs = keys.nowMs();
  if (nowMs >= claims.expiresAtMs) return { refused: 'expired', message: 'This token has expired.' };
  if (nowMs - usedAtMs >= claims.idleMs) {
    return { refused: 'idle', message: 'This token was not used for too long.' };
  }
  const tenant = { organization: row.organization, project: row.project };
  if (await isOver(keys.store, tenant, claims.session)) {
    return { refused: 'session_over', message: 'The session of this token is over.' };
  }
  if (nowMs - usedAtMs >= claims.idleMs / 8) await touch(keys, tenant, row, nowMs);
  return { tenant, claims };
}

/** Idempotent. From its return on the token is worth nothing, in every process. */
export async function revokeTask(
  keys: TaskKeys,
  tenant: Tenant,
  { session, actor }: { session: string; actor: string },
): Promise<void> {
  await change(keys, tenant, session, (before) => {
    if (before === null || before.archivedAt !== null) return null;
    const time = new Date(keys.nowMs()).toISOString();
    const { organization: _organization, project: _project, ...row } = before;
    // A body of its own: a use at this very moment finds another one under its version, and is no longer written.
    const body = { ...row.body, revoked: true };
    const life = { archivedAt: time, updatedAt: time, uniqueName: null };
    return {
      put: { ...row, version: row.version + 1, body, ...life },
      event: ['task_identity.revoked', {}, actor],
    };
  });
}

const unknown: TaskRefusal = { refused: 'unknown', message: 'This token is not known.' };

/** Written only over the very row that was read: a token that was revoked or replaced meanwhile stays so. */
async function touch(keys: TaskKeys, tenant: Tenant, row: Resource, nowMs: number): Promise<void> {
  const { organization: _organization, project: _project, ...put } = row;
  const body = { ...row.body, usedAtMs: nowMs };
  await append(keys, tenant, { ...put, version: put.version + 1, body }, null);
}

async function isOver(store: Store, tenant: Tenant, session: string): Promise<boolean> {
  const row = await store.stream(tenant, session);
  if (row === null || row.erased || row.summary === null) return true;
  const { archived_at, deleted, status } = row.summary;
  return archived_at !== null || deleted === true || status === 'terminated';
}

type Event = [type: string, facts: JsonObject, actor: string];
type Decided = { put: ResourcePut; event: Event };

async function change(
  keys: TaskKeys,
  tenant: Tenant,
  session: string,
  decide: (before: Resource | null) => Decided | null,
): Promise<void> {
  for (let round = 0; round < maxRounds; round++) {
    const decided = decide(await keys.store.resource(tenant, kind, session));
    if (decided === null) return;
    const [type, facts, actor] = decided.event;
    const event: Event = [type, { ...facts, session_id: session }, actor];
    const result = await append(keys, tenant, decided.put, event);
    if (result.status === 'ok') return;
    if (result.status !== 'conflict' || result.reason !== 'version')
      throw new Error(`a task identity was not recorded: ${result.status}`);
  }
  throw new Error('a task identity was not recorded: others were always quicker');
}

function append(
  { store, nowMs }: TaskKeys,
  { organization, project }: Tenant,
  put: ResourcePut,
  event: Event | null,
): Promise<AppendResult> {
  const nothing = { thread: null, turn: null, call: null, causation: null, private: null };
  const [type, facts, actor] = event ?? [];
  const recorded =
    type === undefined
      ? []
      : [
          {
            ...{ id: newId('event', nowMs()), type, actor: actor ?? '', ...nothing },
            ...{ audience: 'operator' as const, public: facts ?? {} },
          },
        ];
  return store.append({ organization, project, stream: organization, events: recorded, resources: [put] });
}

function tokenOf(keys: TaskKeys, { organization, project }: Tenant, session: string, epoch: string): string {
  const text = JSON.stringify([organization, project, session, epoch]);
  return prefix + keys.derive('task identity', text).toString('base64url');
}

function bodyOf(row: Resource): Body {
  return row.body as unknown as Body;
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}
