/**
 * The store on Postgres: turns calls into statements, keeps count of them, and turns every trouble with the connection
 * into `StoreUnavailable`.
 *
 * Promises kept here
 * - L2: a promise resolves, and listeners hear, only of what was committed.
 * - L8: every call ends within its time.
 */
import type { JsonObject } from '../../protocol/json.ts';
import { appendAsText } from '../as-text.ts';
import { refusalError } from '../refusals.ts';
import type {
  Append,
  AppendResult,
  Claim,
  Leaf,
  ListResources,
  ListStreams,
  Membership,
  OutboxMessage,
  Reservation,
  Resource,
  Snapshot,
  Store,
  StoredEvent,
  StreamRow,
  Summarize,
  Tenant,
  Worker,
} from '../store.ts';
import { StoreUnavailable } from '../store.ts';
import { claim, claimStream, nextWakeAt, release } from './claims.ts';
import { addressOf } from './connection/address.ts';
import type { Database } from './database.ts';
import { openDatabase } from './database.ts';
import { errorOf, failureOf } from './failures.ts';
import { GroupCommit } from './group-commit.ts';
import { ackOutbox, pendingOutbox, reservation } from './ledger.ts';
import type { Lease } from './membership.ts';
import { Members, reapDead, standardLease, workers } from './membership.ts';
import { leaves, read, readById } from './read.ts';
import { listResources, resource, resourceByName } from './resources.ts';
import { saveSnapshot, snapshot } from './snapshots.ts';
import { listStreams, streamRow } from './streams.ts';
import { Commits } from './touched/commits.ts';
import type { Touched } from './touched/payload.ts';

export type PostgresOptions = {
  databaseUrl: string;
  /** 32 bytes that every process of the deployment has. */
  masterKeyFile: string;
  summarizeModule: URL;
  now?: () => number;
  /** Connections for work; liveness and notifications take one more each. */
  poolSize?: number;
  connectTimeoutMs?: number;
  statementTimeoutMs?: number;
  /** Age at which connections for work are replaced: the server frees what one has gathered only when it ends. */
  maxAgeSeconds?: number;
  /** Other times than the standard ones; for tests. */
  lease?: Partial<Lease>;
};

/** One statement per engine process; the time it adds to a takeover is half of it on average. */
const reapEveryMs = 250;

export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  const module = (await import(options.summarizeModule.href)) as { summarize: Summarize };
  const opening = openDatabase({
    address: addressOf(options.databaseUrl),
    limits: {
      poolSize: options.poolSize ?? 8,
      connectTimeoutMs: options.connectTimeoutMs ?? 5_000,
      statementTimeoutMs: options.statementTimeoutMs ?? 10_000,
      maxAgeSeconds: options.maxAgeSeconds ?? 1_800,
    },
    masterKeyFile: options.masterKeyFile,
    summarize: module.summarize,
    nowMs: options.now ?? Date.now,
  });
  const opened = await opening.catch((error: unknown) => {
    throw translated(error);
  });
  if (opened.status === 'refused') throw refusalError(opened.refusal);
  const store = new PostgresStore(opened.database, { ...standardLease, ...options.lease });
  await store.start();
  return store;
}

function translated(error: unknown): unknown {
  const failure = failureOf(error);
  return failure.kind === 'unavailable' ? errorOf(failure) : error;
}

class PostgresStore implements Store {
  readonly #database: Database;
  readonly #groupCommit: GroupCommit;
  readonly #members: Members;
  readonly #commits: Commits;
  readonly reapEveryMs = reapEveryMs;
  readonly #underWay = new Set<Promise<unknown>>();
  #closing: Promise<void> | null = null;

  constructor(database: Database, lease: Lease) {
    this.#database = database;
    this.#members = new Members(database.pool, lease);
    // What another process wrote makes what we remember of the stream useless.
    this.#commits = new Commits(database.pool, ({ stream, head }) => {
      if ((database.bases.get(stream)?.head ?? head) < head) database.bases.delete(stream);
    });
    this.#groupCommit = new GroupCommit(database, (touched) => this.#commits.committed(touched));
  }

  start(): Promise<void> {
    return this.#call(() => this.#commits.start());
  }

  append(request: Append): Promise<AppendResult> {
    return this.#call(() => this.#groupCommit.append(appendAsText(request)));
  }

  read(stream: string, afterSeq: number, limit: number): Promise<StoredEvent[]> {
    return this.#call(() => read(this.#database, stream, afterSeq, limit));
  }

  readById(stream: string, eventId: string): Promise<StoredEvent | null> {
    return this.#call(() => readById(this.#database, stream, eventId));
  }

  leaves(stream: string, afterSeq: number, limit: number): Promise<Leaf[]> {
    return this.#call(() => leaves(this.#database, stream, afterSeq, limit));
  }

  stream(tenant: Tenant, stream: string): Promise<StreamRow | null> {
    return this.#call(() => streamRow(this.#database, tenant, stream));
  }

  listStreams(query: ListStreams): Promise<StreamRow[]> {
    return this.#call(() => listStreams(this.#database, query));
  }

  resource(tenant: Tenant, kind: string, id: string, version?: number): Promise<Resource | null> {
    return this.#call(() => resource(this.#database, tenant, { kind, id, version: version ?? null }));
  }

  listResources(query: ListResources): Promise<Resource[]> {
    return this.#call(() => listResources(this.#database, query));
  }

  resourceByName(kind: string, uniqueName: string): Promise<Resource | null> {
    return this.#call(() => resourceByName(this.#database, kind, uniqueName));
  }

  reservation(tenant: Tenant, id: string): Promise<Reservation | null> {
    return this.#call(() => reservation(this.#database, tenant, id));
  }

  saveSnapshot(stream: string, snapshot: Snapshot): Promise<void> {
    return this.#call(() => saveSnapshot(this.#database, stream, snapshot));
  }

  snapshot(stream: string): Promise<Snapshot | null> {
    return this.#call(() => snapshot(this.#database, stream));
  }

  pendingOutbox(limit: number): Promise<OutboxMessage[]> {
    return this.#call(() => pendingOutbox(this.#database, limit));
  }

  ackOutbox(ids: string[]): Promise<void> {
    return this.#call(() => ackOutbox(this.#database, ids));
  }

  claim(worker: string, limit: number): Promise<Claim[]> {
    return this.#call(() => claim(this.#database, worker, limit));
  }

  claimStream(worker: string, stream: string): Promise<Claim | null> {
    return this.#call(() => claimStream(this.#database, worker, stream));
  }

  release(
    stream: string,
    fence: number,
    seenHead: number,
    wakeAt: number | null,
  ): Promise<'ok' | 'moved' | 'fenced'> {
    return this.#call(() => release(this.#database, stream, fence, { head: seenHead, wakeAt }));
  }

  join(info: JsonObject = {}): Promise<Membership> {
    return this.#call(() => this.#members.join(info));
  }

  workers(): Promise<Worker[]> {
    return this.#call(() => workers(this.#database));
  }

  async reapDead(): Promise<number> {
    const freed = await this.#call(() => reapDead(this.#database));
    if (freed.length > 0) this.#commits.committed(freed);
    return freed.length;
  }

  nextWakeAt(): Promise<number | null> {
    return this.#call(() => nextWakeAt(this.#database));
  }

  onAppend(listener: (touched: Touched[]) => void): () => void {
    return this.#commits.subscribe(listener);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await this.#members.leaveAll();
    await this.#commits.close();
    await this.#database.pool.end();
  }

  async #call<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw new StoreUnavailable('the store is closed');
    const result = work();
    this.#underWay.add(result);
    try {
      return await result;
    } catch (error) {
      throw translated(error);
    } finally {
      this.#underWay.delete(result);
    }
  }
}
