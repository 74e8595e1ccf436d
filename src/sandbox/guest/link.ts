/**
 * The host's end of one sandbox: calls and file operations over the guest's socket.
 *
 * Promises
 * - Everything the guest says is hostile input: one bad frame ends the link (`ended` says why), never the host.
 * - Output is asked for by credit only: whoever stores it says when there is room again.
 * - When the link ends, every open request is answered (`link_ended`) and every call is told.
 */
import type { Duplex } from 'node:stream';
import {
  encodeFrame,
  type Frame,
  FrameError,
  FrameReader,
  fromGuest,
  MAX_DATA_BYTES,
  Payload,
  PROTOCOL_VERSION,
  text,
  texts,
  toGuest,
  u8,
  u32,
} from './frames.ts';

export type GuestEnding =
  | { how: 'exited'; exitCode: number }
  | { how: 'signalled'; signal: number }
  | { how: 'failed'; errno: number };

export type CallHandlers = {
  /** stream: 0 stdout, 1 stderr, 2 control. `data` may be kept. */
  onOutput(stream: number, data: Buffer): void;
  onExit(ending: GuestEnding, droppedBytes: number): void;
  /** No process of the call is left. */
  onGone(): void;
};

export type SpawnOptions = {
  argv: string[];
  cwd: string;
  env: string[];
  stdin: Uint8Array | null;
  mergeStderr: boolean;
  creditBytes: number;
};

/** Answer of a file operation: an errno (or `replyStatus`), 0 with its payload and parts. */
export type Reply = { status: number; payload: Payload; parts: Buffer[] };

/** A request that was cut off by the end of the sandbox. */
export class LinkEnded extends Error {
  override name = 'LinkEnded';
}

/** The guest's own tables hold 256 calls and 8 unfinished writes. */
export const MAX_LIVE_CALLS = 200;
const MAX_PARTS_BYTES = 64 << 20;
const HANDSHAKE_MS = 10_000;

type Waiting = {
  resolve(reply: Reply): void;
  reject(error: Error): void;
  parts: Buffer[];
  partsBytes: number;
};

export class GuestLink {
  readonly #socket: Duplex;
  readonly #reader = new FrameReader();
  readonly #calls = new Map<number, CallHandlers & { hasExited: boolean }>();
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended = Promise.withResolvers<string>();
  readonly #ready = Promise.withResolvers<void>();
  #endReason: string | null = null;
  #lastId = 0;

  constructor(socket: Duplex) {
    this.#socket = socket;
    this.#ready.promise.catch(() => {});
    const timer = setTimeout(() => this.end('the guest did not answer'), HANDSHAKE_MS);
    const stopTimer = (): void => clearTimeout(timer);
    this.#ready.promise.then(stopTimer, stopTimer);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('error', (error: Error) => this.end(`the guest's socket failed: ${error.message}`));
    socket.on('close', () => this.end('the guest has ended'));
  }

  /** Settles once the guest has greeted. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Settles with the reason when the link is over. */
  get ended(): Promise<string> {
    return this.#ended.promise;
  }

  get hasEnded(): boolean {
    return this.#endReason !== null;
  }

  get liveCalls(): number {
    return this.#calls.size;
  }

  end(reason: string): void {
    if (this.#endReason !== null) return;
    this.#endReason = reason;
    this.#socket.destroy();
    this.#ready.reject(new LinkEnded(reason));
    for (const waiting of this.#waiting.values()) waiting.reject(new LinkEnded(reason));
    this.#waiting.clear();
    this.#calls.clear();
    this.#ended.resolve(reason);
  }

  /** Starts a program and returns the number by which the link knows it. */
  spawn(options: SpawnOptions, handlers: CallHandlers): number {
    const id = this.#newId();
    const stdin = options.stdin;
    if (stdin !== null) this.#sendChunks(toGuest.stdin, id, stdin);
    this.#send(toGuest.spawn, id, [
      u8(options.mergeStderr ? 1 : 0),
      u32(options.creditBytes),
      text(options.cwd),
      texts(options.argv),
      texts(options.env),
    ]);
    this.#calls.set(id, { ...handlers, hasExited: false });
    return id;
  }

  credit(id: number, bytes: number): void {
    if (this.#calls.has(id)) this.#send(toGuest.credit, id, [u32(bytes)]);
  }

  /** The rest of the call's output is read and dropped inside. */
  discard(id: number): void {
    if (this.#calls.has(id)) this.#send(toGuest.discard, id);
  }

  kill(id: number): void {
    if (this.#calls.has(id)) this.#send(toGuest.kill, id);
  }

  /** Stops all that runs inside, and lets it go on. The guest and its supervisors go on to answer, and to kill. */
  async hold(): Promise<void> {
    await this.request(toGuest.hold, []);
  }

  letGo(): void {
    this.#send(toGuest.letGo, 0);
  }

  request(type: number, parts: Uint8Array[]): Promise<Reply> {
    const id = this.#newId();
    return this.#expectReply(id, () => this.#send(type, id, parts));
  }

  /** A file's new content, in as many frames as it needs; the guest answers at the commit. */
  put(begin: Uint8Array[], content: Uint8Array): Promise<Reply> {
    const id = this.#newId();
    return this.#expectReply(id, () => {
      this.#send(toGuest.putBegin, id, begin);
      this.#sendChunks(toGuest.putData, id, content);
      this.#send(toGuest.putCommit, id);
    });
  }

  #expectReply(id: number, send: () => void): Promise<Reply> {
    if (this.#endReason !== null) return Promise.reject(new LinkEnded(this.#endReason));
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, parts: [], partsBytes: 0 });
      send();
    });
  }

  #newId(): number {
    do this.#lastId = this.#lastId >= 0xffff_ffff ? 1 : this.#lastId + 1;
    while (this.#calls.has(this.#lastId) || this.#waiting.has(this.#lastId));
    return this.#lastId;
  }

  #sendChunks(type: number, id: number, data: Uint8Array): void {
    // An empty stdin is still a stdin of its own: at least one frame.
    for (let at = 0; at === 0 || at < data.length; at += MAX_DATA_BYTES)
      this.#send(type, id, [data.subarray(at, at + MAX_DATA_BYTES)]);
  }

  #send(type: number, id: number, parts: Uint8Array[] = []): void {
    if (this.#endReason === null) this.#socket.write(encodeFrame(type, id, parts));
  }

  #receive(chunk: Buffer): void {
    if (this.#endReason !== null) return;
    try {
      for (const frame of this.#reader.push(chunk)) this.#handle(frame);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.end(`the guest broke the protocol: ${error.message}`);
    }
  }

  #handle(frame: Frame): void {
    const payload = new Payload(frame.payload);
    switch (frame.type) {
      case fromGuest.hello:
        if (payload.u32() !== PROTOCOL_VERSION) throw new FrameError('it speaks another version');
        this.#ready.resolve();
        return;
      case fromGuest.output:
      case fromGuest.exit:
      case fromGuest.gone:
        this.#handleCall(frame, payload);
        return;
      case fromGuest.part:
      case fromGuest.reply:
        this.#handleReply(frame, payload);
        return;
      default:
        throw new FrameError(`unknown frame type ${frame.type}`);
    }
  }

  #handleCall(frame: Frame, payload: Payload): void {
    const call = this.#calls.get(frame.id);
    if (call === undefined) throw new FrameError('it spoke of a call that is not');
    if (frame.type === fromGuest.gone) {
      if (!call.hasExited) throw new FrameError('a call was gone before it had ended');
      this.#calls.delete(frame.id);
      call.onGone();
      return;
    }
    if (call.hasExited) throw new FrameError('a call went on after its end');
    if (frame.type === fromGuest.output) {
      const stream = payload.u8();
      if (stream > 2) throw new FrameError(`unknown stream ${stream}`);
      // A copy: the frame's memory belongs to the socket's buffer, which a kept chunk would hold whole.
      call.onOutput(stream, Buffer.from(payload.rest()));
      return;
    }
    call.hasExited = true;
    const how = payload.u8();
    const value = payload.u32();
    call.onExit(endingOf(how, value), payload.u64());
  }

  #handleReply(frame: Frame, payload: Payload): void {
    const waiting = this.#waiting.get(frame.id);
    if (waiting === undefined) throw new FrameError('it answered what was not asked');
    if (frame.type === fromGuest.reply) {
      this.#waiting.delete(frame.id);
      waiting.resolve({ status: payload.u32(), payload, parts: waiting.parts });
      return;
    }
    waiting.partsBytes += payload.left;
    if (waiting.partsBytes > MAX_PARTS_BYTES) throw new FrameError('an answer is too long');
    waiting.parts.push(payload.rest());
  }
}

function endingOf(how: number, value: number): GuestEnding {
  if (how === 0) return { how: 'exited', exitCode: value };
  if (how === 1) return { how: 'signalled', signal: value };
  if (how === 2) return { how: 'failed', errno: value };
  throw new FrameError(`unknown ending ${how}`);
}
