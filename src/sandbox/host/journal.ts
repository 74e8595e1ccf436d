/**
 * The journal of one session: what the host has promised to remember (L5, L6), in one append-only file.
 *
 * Promises
 * - `append` settles after the record is on disk (fdatasync); concurrent appends share one sync.
 * - A torn tail (power loss, full disk) is cut off on opening; everything before it is kept. A record is whole or absent.
 * - After a failed write or sync nothing more is accepted: a journal that may lie is worse than none (S4).
 *
 * Record: u32 length | u32 crc32 of the body | body (JSON). `written` is the weaker promise for what may be lost with
 * the machine but not with the process: an exit that nobody was told of yet.
 */
import { closeSync, fdatasync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { EditsDone, LimitHit, ProcessState, Refusal, SandboxSpec } from '../executor.ts';
import type { DiskRecord } from '../snapshot/ledger.ts';

export type JournalledEdit = {
  path: string;
  /** base64; null removes. */
  content: string | null;
  expectSha256?: string | null;
  mode?: number;
};

export type JournalRecord =
  | { type: 'session'; session: string; uid: number | null; format: 1 }
  | { type: 'spec'; fence: number; spec: SandboxSpec }
  | { type: 'fence'; fence: number }
  | DiskRecord
  | { type: 'start'; fence: number; callId: string; contentHash: string; atMs: number }
  | {
      type: 'exit';
      callId: string;
      process: Exclude<ProcessState, { state: 'running' }>;
      droppedBytes: number;
    }
  | { type: 'edits'; fence: number; callId: string; contentHash: string; edits: JournalledEdit[] }
  | { type: 'edited'; callId: string; outcome: EditsDone | Refusal }
  | { type: 'limit'; hit: LimitHit }
  /** All that came before it. */
  | { type: 'limits_told' };

const HEADER_BYTES = 8;
const MAX_RECORD_BYTES = 256 << 20;
const UNASKED_SYNC_MS = 20;

type Waiter = { resolve(): void; reject(error: Error): void };

export class Journal {
  readonly #fd: number;
  #size: number;
  #waiting: Waiter[] = [];
  #isSyncing = false;
  #broken: Error | null = null;
  #isClosed = false;
  #syncTimer: NodeJS.Timeout | null = null;

  private constructor(fd: number, size: number) {
    this.#fd = fd;
    this.#size = size;
  }

  /** Opens or makes the file and hands every whole record to `onRecord`, in order. */
  static open(file: string, onRecord: (record: JournalRecord) => void): Journal {
    const fd = openSync(file, 'a+', 0o600);
    const size = readRecords(fd, onRecord);
    if (fstatSync(fd).size > size) ftruncateSync(fd, size);
    return new Journal(fd, size);
  }

  /** On disk when settled. */
  append(record: JournalRecord): Promise<void> {
    try {
      this.written(record);
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#sync();
    });
  }

  /** Survives the death of this process as soon as it returns; on disk with the next sync, at the latest soon. */
  written(record: JournalRecord): void {
    if (this.#broken !== null) throw this.#broken;
    const body = Buffer.from(JSON.stringify(record));
    const bytes = Buffer.allocUnsafe(HEADER_BYTES + body.length);
    bytes.writeUInt32LE(body.length, 0);
    bytes.writeUInt32LE(crc32(body), 4);
    body.copy(bytes, HEADER_BYTES);
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
      this.#size += bytes.length;
      this.#syncTimer ??= setTimeout(() => this.#syncUnasked(), UNASKED_SYNC_MS).unref();
    } catch (error) {
      this.#undoTornWrite(error as Error);
      throw error;
    }
  }

  /** Waits for what was appended, then lets go of the file. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await new Promise<void>((resolve) => {
      this.#waiting.push({ resolve, reject: () => resolve() });
      this.#sync();
    });
    this.#broken ??= new Error('the journal is closed');
    closeSync(this.#fd);
  }

  #syncUnasked(): void {
    this.#syncTimer = null;
    if (this.#isClosed || this.#isSyncing) return;
    this.#waiting.push({ resolve: () => {}, reject: () => {} });
    this.#sync();
  }

  /** A full disk is no reason to give up for good, as long as the half record can be taken back. */
  #undoTornWrite(cause: Error): void {
    try {
      ftruncateSync(this.#fd, this.#size);
    } catch {
      this.#broken = cause;
    }
  }

  #sync(): void {
    if (this.#isSyncing || this.#waiting.length === 0) return;
    this.#isSyncing = true;
    if (this.#syncTimer !== null) clearTimeout(this.#syncTimer);
    this.#syncTimer = null;
    const served = this.#waiting;
    this.#waiting = [];
    fdatasync(this.#fd, (error) => {
      this.#isSyncing = false;
      // After a failed sync the kernel may have dropped the pages: asking again would report a success that is none.
      if (error !== null) this.#broken = error;
      for (const waiter of served) {
        if (error === null) waiter.resolve();
        else waiter.reject(error);
      }
      this.#sync();
    });
  }
}

/** Returns where the last whole record ends. */
function readRecords(fd: number, onRecord: (record: JournalRecord) => void): number {
  const fileBytes = fstatSync(fd).size;
  const header = Buffer.alloc(HEADER_BYTES);
  let at = 0;
  while (at + HEADER_BYTES <= fileBytes) {
    readFully(fd, header, at);
    const length = header.readUInt32LE(0);
    if (length > MAX_RECORD_BYTES || at + HEADER_BYTES + length > fileBytes) break;
    const body = Buffer.allocUnsafe(length);
    readFully(fd, body, at + HEADER_BYTES);
    if (crc32(body) !== header.readUInt32LE(4)) break;
    onRecord(JSON.parse(body.toString()) as JournalRecord);
    at += HEADER_BYTES + length;
  }
  return at;
}

function readFully(fd: number, into: Buffer, at: number): void {
  for (let got = 0; got < into.length; ) {
    const n = readSync(fd, into, got, into.length - got, at + got);
    if (n === 0) throw new Error('the journal shrank while it was read');
    got += n;
  }
}
