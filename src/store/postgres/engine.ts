/**
 * The store on Postgres: turns calls into statements, keeps count of them, and turns every trouble with the connection
 * into `StoreUnavailable`.
 *
 * Promises kept here
 * - L2: a promise resolves, and listeners hear, only of what was committed.
 * - L8: every call ends within its time.
 */
import { appendAsText } from '../as-text.ts';
import { refusalError } from '../refusals.ts';
import type {
  Append,
  AppendResult,
  Claim,
  Leaf,
  ListResources,
  ListStreams,
  OutboxMessage,
  Reservation,
  Resource,
  Store,
  StoredEvent,
  StreamRow,
  Summarize,
  Tenant,
} from '../store.ts';
import { StoreUnavailable } from '../store.ts';
import { claim, nextWakeAt, reap, release } from './claims.ts';
import { addressOf } from './connection/address.ts';
import type { Database } from './database.ts';
import { openDatabase } from './database.ts';
import { errorOf, failureOf } from './failures.ts';
import { GroupCommit } from './group-commit.ts';
import { ackOutbox, pendingOutbox, reservation } from './ledger.ts';
import { leaves, read, readById } from './read.ts';
import { listResources, resource, resourceByName } from './resources.ts';
import { listStreams, streamRow } from './streams.ts';

type Touched = { stream: string; head: number };

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
};

export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  const module = (await import(options.summarizeModule.href)) as { summarize: Summarize };
  const opening = openDatabase({
    address: addressOf(options.databaseUrl),
    limits: {
      poolSize: options.poolSize ?? 8,
      connectTimeoutMs: options.connectTimeoutMs ?? 5_000,
      statementTimeoutMs: options.statementTimeoutMs ?? 10_000,
    },
    masterKeyFile: options.masterKeyFile,
    summarize: module.summarize,
    nowMs: options.now ?? Date.now,
  });
  const opened = await opening.catch((error: unknown) => {
    throw translated(error);
  });
  if (opened.status === 'refused') throw refusalError(opened.refusal);
  return new PostgresStore(opened.database);
}

function translated(error: unknown): unknown {
  const failure = failureOf(error);
  return failure.kind === 'unavailable' ? errorOf(failure) : error;
}

class PostgresStore implements Store {
  readonly #database: Database;
  readonly #groupCommit: GroupCommit;
  readonly #listeners = new Set<(touched: Touched[]) => void>();
  readonly #underWay = new Set<Promise<unknown>>();
  #closing: Promise<void> | null = null;

  constructor(database: Database) {
    this.#database = database;
    this.#groupCommit = new GroupCommit(database, (touched) => this.#tell(touched));
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

  pendingOutbox(limit: number): Promise<OutboxMessage[]> {
    return this.#call(() => pendingOutbox(this.#database, limit));
  }

  ackOutbox(ids: string[]): Promise<void> {
    return this.#call(() => ackOutbox(this.#database, ids));
  }

  claim(worker: string, limit: number): Promise<Claim[]> {
    return this.#call(() => claim(this.#database, worker, limit));
  }

  release(
    stream: string,
    fence: number,
    seenHead: number,
    wakeAt: number | null,
  ): Promise<'ok' | 'moved' | 'fenced'> {
    return this.#call(() => release(this.#database, stream, fence, { head: seenHead, wakeAt }));
  }

  reap(livingWorkers: string[]): Promise<number> {
    return this.#call(() => reap(this.#database, livingWorkers));
  }

  nextWakeAt(): Promise<number | null> {
    return this.#call(() => nextWakeAt(this.#database));
  }

  onAppend(listener: (touched: Touched[]) => void): () => void {
    // Wrapped, so that registering one function twice makes two subscriptions.
    const own = (touched: Touched[]): void => listener(touched);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#underWay);
    await this.#database.pool.end();
  }

  #tell(touched: Touched[]): void {
    for (const listener of [...this.#listeners]) listener(touched);
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
