/**
 * Events on their way into rows and out of them, the same for every engine.
 *
 * Promises kept here
 * - L1: the summary is reduced from exactly the events as they will be read.
 * - G4: every row has its commitments and its leaf hash.
 * - Erasure: payloads are in a row only sealed; without the stream's key it reads as empty.
 */
import type { KeyObject } from 'node:crypto';
import type { JsonObject } from '../protocol/json.ts';
import { eventSchemaVersion } from '../session/events.ts';
import type { TextAppend, TextEvent, TextNewEvent } from './as-text.ts';
import { leafHash, openPayload, sealPayload } from './seal.ts';
import type { Leaf, StoredEvent, Summarize } from './store.ts';

/** The oldest schema version whose engine may drive a stream this release has written to. */
export const leastReaderVersion = 1;

type Header = Omit<StoredEvent, 'public' | 'private' | 'leafHash' | 'erased'>;

export type EventRow = Header & {
  publicCommitment: Uint8Array;
  privateCommitment: Uint8Array | null;
  leafHash: Uint8Array;
  /** Null in a row that is erased. */
  public: Uint8Array | null;
  private: Uint8Array | null;
};

export type Sealing = {
  key: KeyObject;
  /** Head before these events. */
  head: number;
  time: string;
  summary: JsonObject | null;
  summarize: Summarize;
};

/** The rows of an append's events, and the summary after them. */
export function sealEvents(
  request: TextAppend,
  sealing: Sealing,
): { rows: EventRow[]; summary: JsonObject | null } {
  let { summary } = sealing;
  const rows = request.events.map((event, index) => {
    const { row, stored } = sealEvent(request, event, sealing, sealing.head + index + 1);
    summary = sealing.summarize(summary, stored);
    return row;
  });
  return { rows, summary };
}

function sealEvent(
  request: TextAppend,
  event: TextNewEvent,
  { key, time }: Sealing,
  seq: number,
): { row: EventRow; stored: StoredEvent } {
  const { stream } = request;
  const { public: publicText, private: privateText, ...clear } = event;
  const publicValue = JSON.parse(publicText) as JsonObject;
  const privateValue = privateText === null ? null : (JSON.parse(privateText) as JsonObject);
  const visible = sealPayload(key, [stream, event.id, 'public'], publicText, publicValue);
  const hidden =
    privateText === null ? null : sealPayload(key, [stream, event.id, 'private'], privateText, privateValue);
  const header: Header = {
    ...clear,
    organization: request.organization,
    project: request.project,
    stream,
    seq,
    schemaVersion: eventSchemaVersion,
    time,
    fence: request.fence ?? null,
  };
  const leaf = leafHash(header, {
    public: hex(visible.commitment),
    private: hidden === null ? null : hex(hidden.commitment),
  });
  const row = {
    ...header,
    publicCommitment: visible.commitment,
    privateCommitment: hidden?.commitment ?? null,
    leafHash: leaf,
    public: visible.sealed,
    private: hidden?.sealed ?? null,
  };
  const stored = {
    ...header,
    public: publicValue,
    private: privateValue,
    leafHash: hex(leaf),
    erased: false,
  };
  return { row, stored };
}

type Opened = { salt: Uint8Array; text: string };

function openBoth(row: EventRow, key: KeyObject | null): { public: Opened; private: Opened | null } | null {
  if (key === null || row.public === null) return null;
  const open = (sealed: Uint8Array, which: string): Opened =>
    openPayload(key, [row.stream, row.id, which], sealed);
  return {
    public: open(row.public, 'public'),
    private: row.private === null ? null : open(row.private, 'private'),
  };
}

/** `key` is null where it is destroyed. */
export function openEvent(row: EventRow, key: KeyObject | null): TextEvent {
  const { publicCommitment: _p, privateCommitment: _x, leafHash, ...clear } = row;
  const opened = openBoth(row, key);
  return {
    ...clear,
    leafHash: hex(leafHash),
    erased: opened === null,
    public: opened?.public.text ?? '{}',
    private: opened?.private?.text ?? null,
  };
}

export function openLeaf(row: EventRow, key: KeyObject | null): Leaf {
  const { publicCommitment, privateCommitment, leafHash, public: _p, private: _x, ...clear } = row;
  const opened = openBoth(row, key);
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
