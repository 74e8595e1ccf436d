/**
 * The frames between host and guest (the other side is native/guest-wire.h): u32 length of the rest | u8 type |
 * u32 id | payload, little endian.
 *
 * Promise: what comes from a sandbox is parsed as hostile. A frame that is too long, too short or of an unknown type
 * throws `FrameError`; whoever reads then ends the sandbox. Nothing a frame says decides how much is allocated.
 */
export const PROTOCOL_VERSION = 1;
export const MAX_DATA_BYTES = 1 << 20;
export const MAX_FRAME_BYTES = MAX_DATA_BYTES + (64 << 10);
const HEADER_BYTES = 9;

export const toGuest = {
  spawn: 1,
  stdin: 2,
  credit: 3,
  discard: 4,
  kill: 5,
  stat: 6,
  read: 7,
  walk: 8,
  putBegin: 9,
  putData: 10,
  putCommit: 11,
  remove: 12,
  hash: 13,
  hold: 14,
  letGo: 15,
} as const;

export const fromGuest = { hello: 64, output: 66, exit: 67, gone: 68, reply: 69, part: 70 } as const;

/** What a REPLY may say beside errno values. */
export const replyStatus = { notAFile: 1001, changed: 1002, tooLarge: 1003 } as const;

export class FrameError extends Error {
  override name = 'FrameError';
}

export type Frame = { type: number; id: number; payload: Buffer };

export function encodeFrame(type: number, id: number, parts: Uint8Array[] = []): Buffer {
  const size = parts.reduce((sum, part) => sum + part.length, 5);
  if (size > MAX_FRAME_BYTES) throw new FrameError(`a frame of ${size} bytes is too long to send`);
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt32LE(size, 0);
  header.writeUInt8(type, 4);
  header.writeUInt32LE(id, 5);
  return Buffer.concat([header, ...parts]);
}

/** Cuts a byte stream into frames. Every byte is copied at most once more than the socket did. */
export class FrameReader {
  #chunks: Buffer[] = [];
  #size = 0;

  /** Frames completed by `chunk`. */
  *push(chunk: Buffer): Generator<Frame> {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    for (let frame = this.#next(); frame !== null; frame = this.#next()) yield frame;
  }

  #next(): Frame | null {
    if (this.#size < HEADER_BYTES) return null;
    if ((this.#chunks[0] as Buffer).length < HEADER_BYTES) this.#join();
    const length = (this.#chunks[0] as Buffer).readUInt32LE(0);
    if (length < 5 || length > MAX_FRAME_BYTES)
      throw new FrameError(`the guest announced a frame of ${length} bytes`);
    if (this.#size < 4 + length) return null;
    if ((this.#chunks[0] as Buffer).length < 4 + length) this.#join();
    const bytes = this.#chunks[0] as Buffer;
    const rest = bytes.subarray(4 + length);
    if (rest.length > 0) this.#chunks[0] = rest;
    else this.#chunks.shift();
    this.#size -= 4 + length;
    return {
      type: bytes.readUInt8(4),
      id: bytes.readUInt32LE(5),
      payload: bytes.subarray(HEADER_BYTES, 4 + length),
    };
  }

  #join(): void {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
}

export function u8(value: number): Buffer {
  return Buffer.from([value]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value >>> 0, 0);
  return bytes;
}

export function u64(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(value), 0);
  return bytes;
}

/** A string with its NUL. The guest gives up on an inner NUL, so it is refused here, where it is the caller's error. */
export function text(value: string): Buffer {
  if (value.includes('\0')) throw new FrameError('a string for the guest holds a NUL character');
  const bytes = Buffer.from(`${value}\0`);
  return Buffer.concat([u32(bytes.length), bytes]);
}

export function texts(values: string[]): Buffer {
  return Buffer.concat([u32(values.length), ...values.map(text)]);
}

/** Takes a payload apart; running over its end is the guest's fault. */
export class Payload {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  u8(): number {
    return this.take(1).readUInt8(0);
  }

  u16(): number {
    return this.take(2).readUInt16LE(0);
  }

  u32(): number {
    return this.take(4).readUInt32LE(0);
  }

  /** As a number: sizes and times beyond 2^53 do not occur, and a lie about them only loses digits. */
  u64(): number {
    return Number(this.take(8).readBigUInt64LE(0));
  }

  take(size: number): Buffer {
    if (this.left < size) throw new FrameError('a frame of the guest is too short');
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  rest(): Buffer {
    return this.take(this.left);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }
}
