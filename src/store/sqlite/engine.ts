/**
 * The store's face in the caller's thread: turns calls into requests for the database's thread and replies into
 * results. Calls made in one turn of the event loop travel together.
 *
 * Promises kept here
 * - L2: a promise resolves, and listeners hear, only of what the worker has committed; listeners hear of every commit.
 * - L8: where the thread is gone every call rejects with `StoreUnavailable`; none hangs.
 */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker as Thread } from 'node:worker_threads';
import type { JsonObject } from '../../protocol/json.ts';
import { appendAsText, eventOf, snapshotOf, streamRowOf, withBody } from '../as-text.ts';
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
  Tenant,
  Worker,
} from '../store.ts';
import { StoreUnavailable } from '../store.ts';
import type { Failure } from './failures.ts';
import { Members } from './membership.ts';
import type {
  FromWorker,
  OperationName,
  Operations,
  Request,
  Touched,
  WorkerOptions,
} from './thread/wire.ts';

type Waiting = { resolve(value: unknown): void; reject(error: Error): void };

export type SqliteOptions = {
  directory: string;
  summarizeModule: URL;
  now?: () => number;
  maxPages?: number;
};

export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  // The worker ends as this file does: .ts under type stripping, .js from dist.
  const entry = new URL(`./thread/worker${path.extname(fileURLToPath(import.meta.url))}`, import.meta.url);
  const workerData: WorkerOptions = {
    directory: path.resolve(options.directory),
    summarizeModule: options.summarizeModule.href,
    maxPages: options.maxPages ?? null,
  };
  const worker = new Thread(entry, {
    name: 'store',
    workerData,
    execArgv: [],
    // Idle memory counts more than the last percent of speed: small young generation, garbage is short-lived text.
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
  });
  const first = await firstMessage(worker);
  if (first.type === 'ready') return new SqliteStore(worker, options.now ?? Date.now);
  await worker.terminate();
  if (first.type === 'refused') throw refusalError(first.refusal);
  throw first.type === 'failed'
    ? failureError(first.failure)
    : new Error('the store worker spoke before it was ready');
}

function firstMessage(worker: Thread): Promise<FromWorker> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new StoreUnavailable('the store worker ended before it was ready')));
  });
}

function failureError(failure: Failure): Error {
  return failure.kind === 'unavailable' ? new StoreUnavailable(failure.message) : new Error(failure.message);
}

class SqliteStore implements Store {
  readonly #worker: Thread;
  readonly #now: () => number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<(touched: Touched[]) => void>();
  readonly #members = new Members();
  /** The database is this process' alone: who died did so before it was opened. */
  readonly reapEveryMs = null;
  #outgoing: Request[] = [];
  #nextId = 1;
  /** Why nothing more can be asked, once that is so. */
  #ended: StoreUnavailable | null = null;
  #closing: Promise<void> | null = null;

  constructor(worker: Thread, now: () => number) {
    this.#worker = worker;
    this.#now = now;
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'replies') this.#receive(message);
    });
    worker.on('error', (error) => this.#end(`the store's thread failed: ${error.message}`));
    worker.on('exit', () => this.#end('the store is closed'));
  }

  // Async, so that a payload that is no JSON rejects; it is still turned to text before the call returns.
  async append(request: Append): Promise<AppendResult> {
    return this.#call('append', appendAsText(request));
  }

  async read(stream: string, afterSeq: number, limit: number): Promise<StoredEvent[]> {
    return (await this.#call('read', { stream, afterSeq, limit })).map(eventOf);
  }

  async readById(stream: string, eventId: string): Promise<StoredEvent | null> {
    const event = await this.#call('readById', { stream, eventId });
    return event === null ? null : eventOf(event);
  }

  leaves(stream: string, afterSeq: number, limit: number): Promise<Leaf[]> {
    return this.#call('leaves', { stream, afterSeq, limit });
  }

  async stream(tenant: Tenant, stream: string): Promise<StreamRow | null> {
    const row = await this.#call('stream', { tenant, stream });
    return row === null ? null : streamRowOf(row);
  }

  async listStreams(query: ListStreams): Promise<StreamRow[]> {
    return (await this.#call('listStreams', query)).map(streamRowOf);
  }

  async resource(tenant: Tenant, kind: string, id: string, version?: number): Promise<Resource | null> {
    const row = await this.#call('resource', { tenant, kind, id, version: version ?? null });
    return row === null ? null : withBody(row);
  }

  async listResources(query: ListResources): Promise<Resource[]> {
    return (await this.#call('listResources', query)).map(withBody);
  }

  async resourceByName(kind: string, uniqueName: string): Promise<Resource | null> {
    const row = await this.#call('resourceByName', { kind, uniqueName });
    return row === null ? null : withBody(row);
  }

  reservation(tenant: Tenant, id: string): Promise<Reservation | null> {
    return this.#call('reservation', { tenant, id });
  }

  async saveSnapshot(stream: string, snapshot: Snapshot): Promise<void> {
    const { seq, reader, data } = snapshot;
    await this.#call('saveSnapshot', { stream, snapshot: { seq, reader, data: JSON.stringify(data) } });
  }

  async snapshot(stream: string): Promise<Snapshot | null> {
    return snapshotOf(await this.#call('snapshot', { stream }));
  }

  async pendingOutbox(limit: number): Promise<OutboxMessage[]> {
    return (await this.#call('pendingOutbox', { limit })).map(withBody);
  }

  async ackOutbox(ids: string[]): Promise<void> {
    await this.#call('ackOutbox', { ids });
  }

  claim(worker: string, limit: number): Promise<Claim[]> {
    return this.#call('claim', { worker, limit });
  }

  claimStream(worker: string, stream: string): Promise<Claim | null> {
    return this.#call('claimStream', { worker, stream });
  }

  release(
    stream: string,
    fence: number,
    seenHead: number,
    wakeAt: number | null,
  ): Promise<'ok' | 'moved' | 'fenced'> {
    return this.#call('release', { stream, fence, seenHead, wakeAt });
  }

  async join(info: JsonObject = {}): Promise<Membership> {
    if (this.#ended !== null) throw this.#ended;
    return this.#members.join(info);
  }

  async workers(): Promise<Worker[]> {
    return this.#members.living();
  }

  reapDead(): Promise<number> {
    return this.#call('reap', { livingWorkers: this.#members.living().map(({ worker }) => worker) });
  }

  nextWakeAt(): Promise<number | null> {
    return this.#call('nextWakeAt', null);
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
    if (this.#ended !== null) return;
    const exited = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    const closed = this.#call('close', null);
    this.#ended = new StoreUnavailable('the store is closed');
    await closed;
    await exited;
  }

  async #call<K extends OperationName>(op: K, args: Operations[K]['args']): Promise<Operations[K]['result']> {
    if (this.#ended !== null) throw this.#ended;
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Operations[K]['result']>();
    this.#waiting.set(id, { resolve: resolve as Waiting['resolve'], reject });
    if (this.#outgoing.length === 0) queueMicrotask(() => this.#flush());
    this.#outgoing.push({ id, op, nowMs: this.#now(), args } as Request);
    return promise;
  }

  #flush(): void {
    const batch = this.#outgoing;
    this.#outgoing = [];
    try {
      this.#worker.postMessage(batch);
    } catch {
      // One request holds what cannot be cloned (a bug): the others must not suffer for it.
      for (const request of batch) this.#sendAlone(request);
    }
  }

  #sendAlone(request: Request): void {
    try {
      this.#worker.postMessage([request]);
    } catch (error) {
      this.#waiting.get(request.id)?.reject(error instanceof Error ? error : new Error(String(error)));
      this.#waiting.delete(request.id);
    }
  }

  #receive({ replies, touched }: Extract<FromWorker, { type: 'replies' }>): void {
    for (const reply of replies) {
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.ok) waiting?.resolve(reply.value);
      else waiting?.reject(failureError(reply.failure));
    }
    if (touched.length === 0) return;
    for (const listener of [...this.#listeners]) listener(touched);
  }

  #end(reason: string): void {
    this.#ended ??= new StoreUnavailable(reason);
    this.#members.loseAll(this.#ended);
    for (const { reject } of this.#waiting.values()) reject(this.#ended);
    this.#waiting.clear();
  }
}
