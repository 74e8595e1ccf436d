/**
 * What crosses between the caller's thread and the database's. JSON documents travel as text: text is what is stored,
 * it clones faster than an object graph, and the caller may change its object the moment the call returned.
 */

import type { Refusal } from '../refusals.ts';
import type {
  Append,
  AppendResult,
  Claim,
  Leaf,
  ListResources,
  ListStreams,
  NewEvent,
  OutboxMessage,
  Reservation,
  Resource,
  ResourcePut,
  StoredEvent,
  StreamRow,
  Tenant,
} from '../store.ts';
import type { Failure } from './failures.ts';

export type WireNewEvent = Omit<NewEvent, 'public' | 'private'> & { public: string; private: string | null };
export type WireEvent = Omit<StoredEvent, 'public' | 'private'> & { public: string; private: string | null };
export type WireResourcePut = Omit<ResourcePut, 'body'> & { body: string };
export type WireResource = Omit<Resource, 'body'> & { body: string };
export type WireStreamRow = Omit<StreamRow, 'summary'> & { summary: string | null };
export type WireOutboxMessage = Omit<OutboxMessage, 'body'> & { body: string };
export type WireAppend = Omit<Append, 'events' | 'resources' | 'outbox'> & {
  events: WireNewEvent[];
  resources: WireResourcePut[];
  outbox: { id: string; kind: string; body: string }[];
};

/** Every call of the contract: what goes over and what comes back. */
export type Operations = {
  append: { args: WireAppend; result: AppendResult };
  claim: { args: { worker: string; limit: number }; result: Claim[] };
  release: {
    args: { stream: string; fence: number; seenHead: number; wakeAt: number | null };
    result: 'ok' | 'moved' | 'fenced';
  };
  reap: { args: { livingWorkers: string[] }; result: number };
  ackOutbox: { args: { ids: string[] }; result: null };
  read: { args: { stream: string; afterSeq: number; limit: number }; result: WireEvent[] };
  readById: { args: { stream: string; eventId: string }; result: WireEvent | null };
  leaves: { args: { stream: string; afterSeq: number; limit: number }; result: Leaf[] };
  stream: { args: { tenant: Tenant; stream: string }; result: WireStreamRow | null };
  listStreams: { args: ListStreams; result: WireStreamRow[] };
  resource: {
    args: { tenant: Tenant; kind: string; id: string; version: number | null };
    result: WireResource | null;
  };
  listResources: { args: ListResources; result: WireResource[] };
  resourceByName: { args: { kind: string; uniqueName: string }; result: WireResource | null };
  reservation: { args: { tenant: Tenant; id: string }; result: Reservation | null };
  pendingOutbox: { args: { limit: number }; result: WireOutboxMessage[] };
  nextWakeAt: { args: null; result: number | null };
  close: { args: null; result: null };
};

export type OperationName = keyof Operations;

export type RequestOf<K extends OperationName> = {
  [Op in K]: { id: number; op: Op; nowMs: number; args: Operations[Op]['args'] };
}[K];
export type Request = RequestOf<OperationName>;

export type Reply = { id: number } & (
  | { ok: true; value: Operations[OperationName]['result'] }
  | { ok: false; failure: Failure }
);

/** What one commit touched: a stream and its head after it. */
export type Touched = { stream: string; head: number };

export type FromWorker =
  | { type: 'ready' }
  | { type: 'refused'; refusal: Refusal }
  | { type: 'failed'; failure: Failure }
  | { type: 'replies'; replies: Reply[]; touched: Touched[] };

export type WorkerOptions = {
  directory: string;
  /** Module that exports the reducer as `summarize`. A function cannot be sent to a worker; its address can. */
  summarizeModule: string;
  /** Upper limit of the database in pages; a quota, and how tests fill a disk. */
  maxPages: number | null;
};
