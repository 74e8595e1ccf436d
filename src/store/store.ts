/**
 * The store contract: one log for all streams, with what must change in the same transaction beside it. Two engines
 * implement it with the same file set (`sqlite/`, `postgres/`) and pass the same conformance suite
 * (`conformance.ts`).
 *
 * Promises kept here
 * - L1: events are the truth. `summary` is a projection (a pure reducer handed in) that can be rebuilt from them.
 * - L2: `append` resolves only after the transaction is fsynced; what it resolved is listable at once.
 * - L3: an owner appends under its fence *and* the sequence it folded; outsiders append without a fence, idempotent by
 *   request key. All are in one gap-free total order per stream.
 * - L8: a failed append rejects with `StoreUnavailable` and has changed nothing, or is found by its request key.
 * - G4: a leaf hash is committed with every event, over salted commitments of its payloads.
 * - Erasure: payloads are sealed under the stream's key; destroying the key leaves envelope, commitments and leaf.
 *
 * Contract: endings are values; methods reject only with `StoreUnavailable` (disk full, closed, gone) or on a bug.
 */
import type { Json, JsonObject } from '../protocol/json.ts';
import type { Audience } from '../session/events.ts';

/** An event as the store sees it: it reads none of the payloads. */
export type NewEvent = {
  id: string;
  type: string;
  actor: string;
  thread: string | null;
  turn: string | null;
  call: string | null;
  causation: string | null;
  audience: Audience;
  public: JsonObject;
  private: JsonObject | null;
};

export type StoredEvent = NewEvent & {
  organization: string;
  project: string;
  stream: string;
  seq: number;
  schemaVersion: number;
  time: string;
  fence: number | null;
  /** sha256 (hex) over the canonical envelope and the payload commitments (G4). */
  leafHash: string;
  /** True where the stream's key is destroyed: payloads read as {} and null. */
  erased: boolean;
};

export type Tenant = { organization: string; project: string };

/**
 * A versioned row (agent, environment, file, key, …) written in the append's own transaction. A version is written
 * once: a put needs a version above the newest, or it is `conflict`. The one exception is the newest version put again
 * with the same body, which changes only its life (`updatedAt`, `archivedAt`, `uniqueName`).
 */
export type ResourcePut = {
  kind: string;
  id: string;
  version: number;
  body: JsonObject;
  createdAt: string;
  updatedAt: string;
  archivedAt: string | null;
  /** Unique among live rows of (organization, project, kind), or null. A clash is `conflict`. */
  uniqueName: string | null;
};

export type Resource = Tenant & ResourcePut;

export type Append = Tenant & {
  stream: string;
  /** The first append of a stream says so; a second one is `conflict`. */
  create?: boolean;
  /** Owner's token; absent: an observation or input from outside. */
  fence?: number;
  /** Last sequence the writer folded; absent: wherever the head is. */
  expectedSeq?: number;
  /** Makes the whole act idempotent: `key` is unique per stream for ever, `hash` is of the request. */
  request?: { key: string; hash: string };
  events: NewEvent[];
  /**
   * When an engine should look at the stream: now, at a time (ms since the epoch), or unchanged (absent). The earlier
   * of this and what is set wins, so that nobody postpones another's wake; only `release` sets it back.
   */
  wakeAt?: number;
  /** Rows that change with it. `deleteResources` removes all versions, before `resources` are put. */
  resources?: ResourcePut[];
  deleteResources?: { kind: string; id: string }[];
  /** G3: reserve before a model call (id = the call's), settle after. */
  reservation?:
    | { op: 'reserve'; id: string; amountMicros: number | null }
    | { op: 'settle'; id: string; costMicros: number | null };
  /** Messages to be delivered at least once after the commit (webhooks …). */
  outbox?: { id: string; kind: string; body: JsonObject }[];
  /** Destroys the stream's key in the same transaction, after this append's own events (deletion). */
  eraseStream?: boolean;
};

export type AppendResult =
  | { status: 'ok'; firstSeq: number; head: number; time: string }
  /** The same request came before: these are its events. */
  | { status: 'duplicate'; firstSeq: number; head: number }
  /** Another owner has the stream: let go, never retry. */
  | { status: 'fenced'; fence: number }
  /** Something was appended since: fold it and decide again. */
  | { status: 'moved'; head: number }
  /** Same request key with another hash, stream exists or does not, name or version taken. */
  | { status: 'conflict'; reason: 'request' | 'exists' | 'missing' | 'name' | 'version'; message: string };

export type Claim = Tenant & { stream: string; fence: number; head: number };

/** A worker's place among the living. What it claims is claimed under its name. */
export type Membership = {
  worker: string;
  /**
   * Aborts, with the reason, when others may take this worker for dead: its connection broke, or its lease could not be
   * renewed in time. From then on it starts no effect; what it owned is freed under higher fences.
   */
  lost: AbortSignal;
  /** Gives up the place; what it still owns is freed by the next reaping. */
  leave(): Promise<void>;
};

/** A living worker, with what it said about itself when it joined (role, internal address, …). */
export type Worker = { worker: string; info: JsonObject };

export type StreamRow = Tenant & {
  stream: string;
  head: number;
  fence: number;
  owner: string | null;
  wakeAt: number | null;
  createdAt: string;
  erased: boolean;
  /** Null where the stream is erased, and where what is stored does not open. */
  summary: JsonObject | null;
};

/**
 * Filters over the summary's indexed members (`kind`, `agent_id`, `status`, `archived_at`: strings, or null or absent);
 * keyset order by (createdAt, stream). Erased streams are never listed.
 */
export type ListStreams = Tenant & {
  kind: 'session';
  agentId?: string;
  statuses?: string[];
  includeArchived?: boolean;
  createdAt?: { gt?: string; gte?: string; lt?: string; lte?: string };
  order: 'asc' | 'desc';
  after?: { createdAt: string; stream: string };
  limit: number;
};

/** Newest first. Archived rows are left out unless asked for; `versionsOf` always lists every version. */
export type ListResources = Tenant & {
  kind: string;
  includeArchived?: boolean;
  createdAt?: { gte?: string; lte?: string };
  /** All versions of one id (newest first) instead of the newest of each. */
  versionsOf?: string;
  after?: { createdAt: string; id: string; version: number };
  limit: number;
};

/**
 * A commit's news. `isOwners`: all of it was its owner's own append, so that there is nothing for anybody to claim; absent
 * where that is not known.
 */
export type Touched = { stream: string; head: number; isOwners?: boolean };

/** What the audit tree is built of: the clear columns of an event, enough to recompute its leaf hash (G4). */
export type Leaf = Omit<StoredEvent, 'public' | 'private'> & {
  /** sha256(salt || canonical payload), hex. They outlive erasure. */
  commitments: { public: string; private: string | null };
  /** Hex; what opens the commitments. Null once the stream's key is destroyed. */
  salts: { public: string; private: string | null } | null;
};

export type Reservation = Tenant & {
  stream: string;
  id: string;
  amountMicros: number | null;
  /** Null while the reservation is open. */
  settledAt: string | null;
  costMicros: number | null;
};

/** A folded state, kept beside its log. A cache: what it says can always be had from the events. */
export type Snapshot = {
  /** The last event that is folded into it. */
  seq: number;
  /** What wrote it and can read it; the store takes no notice. */
  reader: number;
  data: JsonObject;
};

export type OutboxMessage = Tenant & { stream: string; id: string; kind: string; body: JsonObject };

/** Thrown when the store cannot do its work now; nothing was changed, or the request key finds it. */
export class StoreUnavailable extends Error {
  override name = 'StoreUnavailable';
}

/** Reduces a stream's summary; pure, handed in by the composition root (`session/summary.ts`). */
export type Summarize = (summary: JsonObject | null, event: StoredEvent) => JsonObject;

export interface Store {
  append(request: Append): Promise<AppendResult>;
  /** Events after `afterSeq` in order, at most `limit`. */
  read(stream: string, afterSeq: number, limit: number): Promise<StoredEvent[]>;
  /** One event of a stream by id. */
  readById(stream: string, eventId: string): Promise<StoredEvent | null>;
  stream(tenant: Tenant, stream: string): Promise<StreamRow | null>;
  listStreams(query: ListStreams): Promise<StreamRow[]>;

  resource(tenant: Tenant, kind: string, id: string, version?: number): Promise<Resource | null>;
  listResources(query: ListResources): Promise<Resource[]>;
  /** Looks up one live row by a unique name across tenants (API keys by hash). */
  resourceByName(kind: string, uniqueName: string): Promise<Resource | null>;

  /** Takes up to `limit` streams whose `wakeAt` has come and that nobody owns; each claim raises the fence. */
  claim(worker: string, limit: number): Promise<Claim[]>;
  /** Takes this one stream, due or not; null where somebody owns it, or it is not there to be driven. */
  claimStream(worker: string, stream: string): Promise<Claim | null>;
  /** Gives a stream back; refused (`moved`) when the head is not what the owner folded. */
  release(
    stream: string,
    fence: number,
    seenHead: number,
    wakeAt: number | null,
  ): Promise<'ok' | 'moved' | 'fenced'>;
  /** Takes a place among the living, under a new name. */
  join(info?: JsonObject): Promise<Membership>;
  /** The living, of all processes. */
  workers(): Promise<Worker[]>;
  /** Frees everything owned by workers that are not among the living; it wakes now under a higher fence. */
  reapDead(): Promise<number>;
  /** How often to reap; null where nobody but this process can die, and once at the start is enough. */
  readonly reapEveryMs: number | null;
  /** The earliest `wakeAt` of unowned streams, or null. */
  nextWakeAt(): Promise<number | null>;

  /** Leaves after `afterSeq` in order, at most `limit`; no payload is read. */
  leaves(stream: string, afterSeq: number, limit: number): Promise<Leaf[]>;
  reservation(tenant: Tenant, id: string): Promise<Reservation | null>;
  /**
   * Keeps the snapshot in place of the stream's last one; sealed as a summary is, and erased with the stream. Nothing
   * happens where the stream is erased, has no event `seq` yet, or has a later snapshot of the same reader.
   */
  saveSnapshot(stream: string, snapshot: Snapshot): Promise<void>;
  /** Null also where it does not open. Never beyond the stream's head. */
  snapshot(stream: string): Promise<Snapshot | null>;
  /** The oldest undelivered messages; they stay until acknowledged. */
  pendingOutbox(limit: number): Promise<OutboxMessage[]>;
  ackOutbox(ids: string[]): Promise<void>;

  /**
   * Calls back with the streams that a commit touched, after it: at once for commits of this process, soon for those of
   * others. Each commit that adds an event is told at least once, also when a notification is lost on the way. Returns
   * the unsubscriber.
   */
  onAppend(listener: (touched: Touched[]) => void): () => void;

  close(): Promise<void>;
}

/** Content-addressed bytes, fsynced before `put` resolves, one namespace per organisation. */
export interface Blobs {
  put(
    organization: string,
    data: AsyncIterable<Uint8Array> | Uint8Array,
  ): Promise<{ sha256: string; sizeBytes: number }>;
  read(organization: string, sha256: string, offset: number, maxBytes: number): Promise<Uint8Array | null>;
  delete(organization: string, sha256: string): Promise<void>;
}

export type { Json };
