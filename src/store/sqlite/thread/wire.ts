/** What crosses between the caller's thread and the database's. JSON documents travel as text. */

import type {
  TextAppend,
  TextEvent,
  TextOutboxMessage,
  TextResource,
  TextSnapshot,
  TextStreamRow,
} from '../../as-text.ts';
import type { Refusal } from '../../refusals.ts';
import type {
  AppendResult,
  Claim,
  Leaf,
  ListResources,
  ListStreams,
  Reservation,
  Tenant,
} from '../../store.ts';
import type { Failure } from '../failures.ts';

/** Every call of the contract: what goes over and what comes back. */
export type Operations = {
  append: { args: TextAppend; result: AppendResult };
  claim: { args: { worker: string; limit: number }; result: Claim[] };
  claimStream: { args: { worker: string; stream: string }; result: Claim | null };
  release: {
    args: { stream: string; fence: number; seenHead: number; wakeAt: number | null };
    result: 'ok' | 'moved' | 'fenced';
  };
  reap: { args: { livingWorkers: string[] }; result: number };
  ackOutbox: { args: { ids: string[] }; result: null };
  read: { args: { stream: string; afterSeq: number; limit: number }; result: TextEvent[] };
  readById: { args: { stream: string; eventId: string }; result: TextEvent | null };
  leaves: { args: { stream: string; afterSeq: number; limit: number }; result: Leaf[] };
  stream: { args: { tenant: Tenant; stream: string }; result: TextStreamRow | null };
  listStreams: { args: ListStreams; result: TextStreamRow[] };
  resource: {
    args: { tenant: Tenant; kind: string; id: string; version: number | null };
    result: TextResource | null;
  };
  listResources: { args: ListResources; result: TextResource[] };
  resourceByName: { args: { kind: string; uniqueName: string }; result: TextResource | null };
  reservation: { args: { tenant: Tenant; id: string }; result: Reservation | null };
  pendingOutbox: { args: { limit: number }; result: TextOutboxMessage[] };
  saveSnapshot: { args: { stream: string; snapshot: TextSnapshot }; result: null };
  snapshot: { args: { stream: string }; result: TextSnapshot | null };
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
