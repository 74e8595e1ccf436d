/**
 * What is written and read, with its JSON documents as text. Text is what is stored, it crosses to a thread faster than
 * an object graph, and the caller may change its object the moment the call returned.
 */
import type { JsonObject } from '../protocol/json.ts';
import type {
  Append,
  NewEvent,
  OutboxMessage,
  Resource,
  ResourcePut,
  Snapshot,
  StoredEvent,
  StreamRow,
} from './store.ts';

export type TextNewEvent = Omit<NewEvent, 'public' | 'private'> & { public: string; private: string | null };
export type TextEvent = Omit<StoredEvent, 'public' | 'private'> & { public: string; private: string | null };
export type TextResourcePut = Omit<ResourcePut, 'body'> & { body: string };
export type TextResource = Omit<Resource, 'body'> & { body: string };
export type TextStreamRow = Omit<StreamRow, 'summary'> & { summary: string | null };
export type TextOutboxMessage = Omit<OutboxMessage, 'body'> & { body: string };
export type TextSnapshot = Omit<Snapshot, 'data'> & { data: string };
export type TextAppend = Omit<Append, 'events' | 'resources' | 'outbox'> & {
  events: TextNewEvent[];
  resources: TextResourcePut[];
  outbox: { id: string; kind: string; body: string }[];
};

/**
 * Member by member: callers may hand in more than the type says (a stored event to copy it, another tenant's resource),
 * and none of that may reach a row.
 */
export function appendAsText(request: Append): TextAppend {
  return {
    ...request,
    events: request.events.map((event) => ({
      id: event.id,
      type: event.type,
      actor: event.actor,
      thread: event.thread,
      turn: event.turn,
      call: event.call,
      causation: event.causation,
      audience: event.audience,
      public: JSON.stringify(event.public),
      private: event.private === null ? null : JSON.stringify(event.private),
    })),
    resources: (request.resources ?? []).map((put) => ({
      kind: put.kind,
      id: put.id,
      version: put.version,
      body: JSON.stringify(put.body),
      createdAt: put.createdAt,
      updatedAt: put.updatedAt,
      archivedAt: put.archivedAt,
      uniqueName: put.uniqueName,
    })),
    outbox: (request.outbox ?? []).map(({ id, kind, body }) => ({ id, kind, body: JSON.stringify(body) })),
  };
}

export function eventOf(event: TextEvent): StoredEvent {
  return {
    ...event,
    public: JSON.parse(event.public) as JsonObject,
    private: event.private === null ? null : (JSON.parse(event.private) as JsonObject),
  };
}

export function streamRowOf(row: TextStreamRow): StreamRow {
  return { ...row, summary: row.summary === null ? null : (JSON.parse(row.summary) as JsonObject) };
}

export function withBody<T extends { body: string }>(row: T): Omit<T, 'body'> & { body: JsonObject } {
  return { ...row, body: JSON.parse(row.body) as JsonObject };
}

export function snapshotOf(snapshot: TextSnapshot | null): Snapshot | null {
  return snapshot === null ? null : { ...snapshot, data: JSON.parse(snapshot.data) as JsonObject };
}
