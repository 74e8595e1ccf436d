/**
 * Who is asking: API keys, and the principal behind one.
 *
 * - S1: a key is shown once, when it is minted; what is stored is its sha256, so a stolen database opens nothing.
 *   32 random bytes need no slow hash: there is nothing to guess.
 * - S4: an unknown, revoked or malformed key is nobody.
 * - G4: `actor` names the key on every event its requests cause.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { newId } from '../protocol/ids.ts';
import type { JsonObject } from '../protocol/json.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import type { NewEvent, ResourcePut, Store, Tenant } from '../store/store.ts';

export type Principal = {
  /** `apikey_…` */
  keyId: string;
  /** As it stands in every event: `user:apikey_…`. */
  actor: string;
  tenant: Tenant;
};

const keyPrefix = 'sk-scr-';
const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
/** 32 bytes in base 62. */
const secretLength = 43;

/** A new key and the row and event that record it; the caller appends them to the organisation's stream. */
export function mintApiKey(name: string, actor: string, nowMs: number) {
  const key = keyPrefix + base62(randomBytes(32));
  return { key, ...recordOf(key, name, actor, nowMs) };
}

/** The row and event of a key: its hash, and enough of its end to tell keys apart. */
function recordOf(key: string, name: string, actor: string, nowMs: number) {
  const id = newId('apiKey', nowMs);
  const time = new Date(nowMs).toISOString();
  const body: JsonObject = { name, sha256: hashOf(key), hint: key.slice(-4) };
  const resource: ResourcePut = {
    kind: 'api_key',
    id,
    version: 1,
    body,
    createdAt: time,
    updatedAt: time,
    archivedAt: null,
    uniqueName: hashOf(key),
  };
  return { id, resource, event: keyEvent('api_key.created', id, { name }, actor, nowMs) };
}

type KeyRequest = { name: string; actor: string; nowMs: number; tenant?: Tenant };

/** Mints a key and stores its hash. */
export async function createApiKey(store: Store, request: KeyRequest): Promise<{ id: string; key: string }> {
  const minted = mintApiKey(request.name, request.actor, request.nowMs);
  const result = await record(store, minted, request.tenant ?? defaultTenant);
  if (result.status !== 'ok') throw new Error(`the API key was not stored: ${result.status}`);
  return { id: minted.id, key: minted.key };
}

/**
 * Stores a key that an operator chose, once. Throws `WeakKey` on one that could be guessed or that no header carries.
 */
export async function storeApiKey(store: Store, request: KeyRequest & { key: string }): Promise<void> {
  if (!isKeyForm(request.key)) {
    throw new WeakKey('an API key has 20 to 200 visible ASCII characters, without spaces');
  }
  if (await identify(store, request.key)) return;
  const row = recordOf(request.key, request.name, request.actor, request.nowMs);
  const result = await record(store, row, request.tenant ?? defaultTenant);
  const isThere = result.status === 'conflict' && result.reason === 'name';
  if (result.status !== 'ok' && !isThere) throw new Error(`the API key was not stored: ${result.status}`);
}

export class WeakKey extends Error {
  override name = 'WeakKey';
}

/** The stream of the organisation is begun if this is its first act. */
async function record(store: Store, row: { event: NewEvent; resource: ResourcePut }, tenant: Tenant) {
  const append = { ...tenant, stream: tenant.organization, events: [row.event], resources: [row.resource] };
  const result = await store.append(append);
  if (result.status !== 'conflict' || result.reason !== 'missing') return result;
  const created = await store.append({ ...append, create: true });
  // Another process's first act came between: the stream is there now.
  return created.status === 'conflict' && created.reason === 'exists' ? store.append(append) : created;
}

/** The principal behind a presented key, or null for nobody. */
export async function identify(store: Store, presented: string): Promise<Principal | null> {
  if (!isKeyForm(presented)) return null;
  const hash = hashOf(presented);
  const row = await store.resourceByName('api_key', hash);
  if (!row || row.archivedAt !== null || typeof row.body.sha256 !== 'string') return null;
  // The lookup found it by its hash already; comparing again in constant time costs nothing and trusts no collation.
  const stored = Buffer.from(row.body.sha256, 'hex');
  const computed = Buffer.from(hash, 'hex');
  if (stored.length !== computed.length || !timingSafeEqual(stored, computed)) return null;
  return {
    keyId: row.id,
    actor: `user:${row.id}`,
    tenant: { organization: row.organization, project: row.project },
  };
}

/** The row and event that end a key. Null where it is unknown. */
export async function revocation(
  store: Store,
  tenant: Tenant,
  id: string,
  actor: string,
  nowMs: number,
): Promise<{ resource: ResourcePut; event: NewEvent } | null> {
  const row = await store.resource(tenant, 'api_key', id);
  if (!row) return null;
  const { organization: _organization, project: _project, ...put } = row;
  const time = new Date(nowMs).toISOString();
  return {
    resource: { ...put, updatedAt: time, archivedAt: row.archivedAt ?? time, uniqueName: null },
    event: keyEvent('api_key.revoked', id, {}, actor, nowMs),
  };
}

function keyEvent(type: string, id: string, facts: JsonObject, actor: string, nowMs: number): NewEvent {
  return {
    id: newId('event', nowMs),
    type,
    actor,
    thread: null,
    turn: null,
    call: null,
    causation: null,
    audience: 'operator',
    public: { api_key_id: id, ...facts },
    private: null,
  };
}

/** Ours, or one that an operator chose. */
function isKeyForm(text: string): boolean {
  return /^[!-~]{20,200}$/.test(text);
}

function hashOf(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

function base62(bytes: Uint8Array): string {
  let rest = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  let text = '';
  for (let i = 0; i < secretLength; i++) {
    text = (alphabet[Number(rest % 62n)] as string) + text;
    rest /= 62n;
  }
  return text;
}
