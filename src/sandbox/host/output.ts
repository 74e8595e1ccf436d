/**
 * What one call wrote: numbered chunks, the newest in memory, all of them in a file.
 *
 * Promises: memory per call is bounded however much is written or however late it is read; reading from any number
 * on is O(what is read); a chunk is in the file (hence survives the host) before room for more is given; a program
 * that writes byte by byte costs the host little, because what comes together is kept and written together.
 */
import { closeSync, fstatSync, openSync, read, readSync, writev, writevSync } from 'node:fs';
import { promisify } from 'node:util';
import type { OutputChunk } from '../executor.ts';

const readAt = promisify(read);
const writeAll = promisify(writev);

const streams = ['stdout', 'stderr', 'control'] as const;
const HEADER_BYTES = 5;
const MEMORY_BYTES = 512 << 10;
const INDEX_EVERY = 32;
const MERGED_BYTES = 64 << 10;
/** Written without a detour through the thread pool: for the usual few lines that is all there is. */
const SMALL_BYTES = 16 << 10;

type Kept = { seq: number; stream: number; parts: Buffer[]; sizeBytes: number };

export class OutputLog {
  readonly #file: string;
  /** Told how many bytes are in the file since it was told last. */
  onWritten: (bytes: number) => void = () => {};
  #writeFd: number | null = null;
  #fileBytes = 0;
  #lastSeq = 0;
  #writtenSeq = 0;
  /** File offset of chunk 1 + i * INDEX_EVERY; null before an old file has been looked through. */
  #index: number[] | null = [];
  /** The newest chunks, in order. */
  #recent: Kept[] = [];
  #recentBytes = 0;
  /** Appended since the last flush. The last of them may still grow, until somebody has read it. */
  #unflushed: Kept[] = [];
  #mayGrow = false;
  #flushTimer: NodeJS.Immediate | null = null;
  #writing: Promise<void> = Promise.resolve();
  #isWriting = 0;
  #failed: Error | null = null;

  /** `isOld`: the file of a call that an earlier host ran. */
  constructor(file: string, isOld = false) {
    this.#file = file;
    if (isOld) this.#index = null;
  }

  get lastSeq(): number {
    if (this.#index === null) this.#lookThrough();
    return this.#lastSeq;
  }

  /** False where the file could not be written lately: nothing more is taken, for it would have to stay in memory. */
  append(stream: number, data: Buffer): boolean {
    if (this.#failed !== null) return false;
    const last = this.#unflushed.at(-1);
    this.#recentBytes += data.length;
    if (this.#mayGrow && last?.stream === stream && last.sizeBytes + data.length <= MERGED_BYTES) {
      last.parts.push(data);
      last.sizeBytes += data.length;
      return true;
    }
    const kept = { seq: ++this.#lastSeq, stream, parts: [data], sizeBytes: data.length };
    this.#recent.push(kept);
    this.#unflushed.push(kept);
    this.#mayGrow = true;
    this.#flushTimer ??= setImmediate(() => this.#flush());
    return true;
  }

  #flush(): void {
    if (this.#flushTimer !== null) clearImmediate(this.#flushTimer);
    this.#flushTimer = null;
    const chunks = this.#unflushed;
    if (chunks.length === 0) return;
    this.#unflushed = [];
    this.#mayGrow = false;
    const pieces: Buffer[] = [];
    let dataBytes = 0;
    for (const { seq, stream, parts, sizeBytes } of chunks) {
      const header = Buffer.allocUnsafe(HEADER_BYTES);
      header.writeUInt8(stream, 0);
      header.writeUInt32LE(sizeBytes, 1);
      if ((seq - 1) % INDEX_EVERY === 0) this.#index?.push(this.#fileBytes);
      this.#fileBytes += HEADER_BYTES + sizeBytes;
      dataBytes += sizeBytes;
      pieces.push(header, ...parts);
    }
    this.#write(Buffer.concat(pieces), dataBytes, (chunks.at(-1) as Kept).seq);
  }

  #write(bytes: Buffer, dataBytes: number, lastSeq: number): void {
    const done = (): void => {
      if (this.#failed === null) this.#writtenSeq = lastSeq;
      this.#forgetOld();
      this.onWritten(dataBytes);
    };
    if (bytes.length <= SMALL_BYTES && this.#isWriting === 0) {
      try {
        for (let at = 0; at < bytes.length; ) at += writevSync(this.#openForWriting(), [bytes.subarray(at)]);
      } catch (error) {
        this.#failed ??= error as Error;
      }
      done();
      return;
    }
    this.#isWriting++;
    this.#writing = this.#writing.then(async () => {
      try {
        const fd = this.#openForWriting();
        for (let at = 0; at < bytes.length; ) at += (await writeAll(fd, [bytes.subarray(at)])).bytesWritten;
      } catch (error) {
        this.#failed ??= error as Error;
      }
      this.#isWriting--;
      done();
    });
  }

  #openForWriting(): number {
    this.#writeFd ??= openSync(this.#file, 'a', 0o600);
    return this.#writeFd;
  }

  /** What is in the file need not stay in memory. What could not be written stays: it is all there is. */
  #forgetOld(): void {
    let first = 0;
    while (this.#recentBytes > MEMORY_BYTES && (this.#recent[first]?.seq ?? Infinity) <= this.#writtenSeq) {
      this.#recentBytes -= (this.#recent[first] as Kept).sizeBytes;
      first++;
    }
    if (first > 0) this.#recent.splice(0, first);
  }

  /** Everything is in the file; the descriptor is let go of. Returns what went wrong on the way, if anything. */
  async finish(): Promise<Error | null> {
    this.#flush();
    if (this.#isWriting > 0) await this.#writing;
    if (this.#writeFd !== null) closeSync(this.#writeFd);
    this.#writeFd = null;
    return this.#failed;
  }

  /** After `finish`: lets go of the memory, the file has it all. */
  release(): void {
    if (this.#failed !== null) return;
    this.#recent = [];
    this.#recentBytes = 0;
  }

  /** Chunks after `afterSeq`, at least one if there is one, and no more than fit into `maxBytes` otherwise. */
  async read(afterSeq: number, maxBytes: number): Promise<OutputChunk[]> {
    if (afterSeq >= this.lastSeq) return [];
    const firstRecent = this.#recent[0]?.seq ?? this.#lastSeq + 1;
    if (afterSeq + 1 < firstRecent) return this.#readFile(afterSeq + 1, firstRecent, maxBytes);
    this.#mayGrow = false;
    const chunks: OutputChunk[] = [];
    let size = 0;
    for (let i = afterSeq + 1 - firstRecent; i < this.#recent.length; i++) {
      const kept = this.#recent[i] as Kept;
      size += kept.sizeBytes;
      if (chunks.length > 0 && size > maxBytes) break;
      if (kept.parts.length > 1) kept.parts = [Buffer.concat(kept.parts)];
      chunks.push({ seq: kept.seq, stream: nameOf(kept.stream), data: kept.parts[0] as Buffer });
    }
    return chunks;
  }

  async #readFile(firstSeq: number, endSeq: number, maxBytes: number): Promise<OutputChunk[]> {
    const chunks: OutputChunk[] = [];
    const slot = Math.floor((firstSeq - 1) / INDEX_EVERY);
    let at = this.#index?.[slot];
    if (at === undefined) return chunks;
    const header = Buffer.alloc(HEADER_BYTES);
    const fd = openSync(this.#file, 'r');
    try {
      let size = 0;
      for (let seq = slot * INDEX_EVERY + 1; seq < endSeq; seq++) {
        if ((await readAt(fd, header, 0, HEADER_BYTES, at)).bytesRead < HEADER_BYTES) break;
        const length = header.readUInt32LE(1);
        if (seq >= firstSeq) {
          size += length;
          if (chunks.length > 0 && size > maxBytes) break;
          const data = Buffer.allocUnsafe(length);
          if ((await readAt(fd, data, 0, length, at + HEADER_BYTES)).bytesRead < length) break;
          chunks.push({ seq, stream: nameOf(header.readUInt8(0)), data });
        }
        at += HEADER_BYTES + length;
      }
    } finally {
      closeSync(fd);
    }
    return chunks;
  }

  /** Numbers the chunks of an old file. A torn last chunk does not count. */
  #lookThrough(): void {
    this.#index = [];
    let fd: number;
    try {
      fd = openSync(this.#file, 'r');
    } catch {
      return;
    }
    const fileBytes = fstatSync(fd).size;
    const header = Buffer.alloc(HEADER_BYTES);
    for (let at = 0; at + HEADER_BYTES <= fileBytes; ) {
      readSync(fd, header, 0, HEADER_BYTES, at);
      const next = at + HEADER_BYTES + header.readUInt32LE(1);
      if (next > fileBytes) break;
      if (this.#lastSeq % INDEX_EVERY === 0) this.#index.push(at);
      this.#lastSeq++;
      at = next;
    }
    closeSync(fd);
  }
}

function nameOf(stream: number): OutputChunk['stream'] {
  return streams[stream] ?? 'stdout';
}
