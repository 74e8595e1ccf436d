/** Events as they are read back: payloads opened under the stream's key, or empty where the key is destroyed. */
import { openPayload } from '../seal.ts';
import type { Leaf, StoredEvent } from '../store.ts';
import type { Database } from './database.ts';
import type { WireEvent } from './wire.ts';

type EventRecord = Omit<StoredEvent, 'public' | 'private' | 'leafHash' | 'erased'> & {
  publicCommitment: Uint8Array;
  privateCommitment: Uint8Array | null;
  leafHash: Uint8Array;
  public: Uint8Array | null;
  private: Uint8Array | null;
};

type Opened = { salt: Uint8Array; text: string };

export function read(
  database: Database,
  range: { stream: string; afterSeq: number; limit: number },
): WireEvent[] {
  const records = database.statements.readEvents.all(range) as EventRecord[];
  return records.map((record) => toEvent(database, record));
}

export function readById(database: Database, query: { stream: string; eventId: string }): WireEvent | null {
  const record = database.statements.readEvent.get(query) as EventRecord | undefined;
  return record === undefined ? null : toEvent(database, record);
}

export function leaves(
  database: Database,
  range: { stream: string; afterSeq: number; limit: number },
): Leaf[] {
  const records = database.statements.readEvents.all(range) as EventRecord[];
  return records.map((record) => toLeaf(database, record));
}

function openBoth(
  database: Database,
  record: EventRecord,
): { public: Opened; private: Opened | null } | null {
  const key = record.public === null ? null : database.keys.of(record.stream);
  if (key === null || record.public === null) return null;
  const open = (sealed: Uint8Array, which: string): Opened =>
    openPayload(key, [record.stream, record.id, which], sealed);
  return {
    public: open(record.public, 'public'),
    private: record.private === null ? null : open(record.private, 'private'),
  };
}

function toEvent(database: Database, record: EventRecord): WireEvent {
  const { publicCommitment: _p, privateCommitment: _x, leafHash, ...clear } = record;
  const opened = openBoth(database, record);
  return {
    ...clear,
    leafHash: hex(leafHash),
    erased: opened === null,
    public: opened?.public.text ?? '{}',
    private: opened?.private?.text ?? null,
  };
}

function toLeaf(database: Database, record: EventRecord): Leaf {
  const { publicCommitment, privateCommitment, leafHash, public: _p, private: _x, ...clear } = record;
  const opened = openBoth(database, record);
  return {
    ...clear,
    leafHash: hex(leafHash),
    erased: opened === null,
    commitments: {
      public: hex(publicCommitment),
      private: privateCommitment === null ? null : hex(privateCommitment),
    },
    salts:
      opened === null
        ? null
        : {
            public: hex(opened.public.salt),
            private: opened.private === null ? null : hex(opened.private.salt),
          },
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
