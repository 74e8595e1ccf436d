/**
 * The Executor port over a host's socket.
 *
 * Promises: every method settles; it rejects with HostUnreachable when the host cannot be reached or the connection
 * broke before the answer. The next call then dials anew, so a client outlives any number of hosts.
 */
import type { Socket } from 'node:net';
import { encodeLine, readLines } from '../../link/lines.ts';
import { failpointNow, failpoints } from '../../protocol/failpoint.ts';
import {
  type CallRef,
  type CallStatus,
  type Checkpoint,
  type CheckpointRead,
  type CheckpointRef,
  type CheckpointWritten,
  type Edit,
  type EditsDone,
  type Executor,
  type FileRead,
  type FileStat,
  HostUnreachable,
  isRefusal,
  type ProcessRead,
  type Refusal,
  type SandboxInfo,
  type SandboxSpec,
  type StartProcess,
} from '../executor.ts';
import type { Layer, Layers, LayerView, Lock } from '../image/layers.ts';
import { limitLack } from './limit-lack.ts';
import { networkLack } from './network.ts';
import { encodeBytes, HOST_PROTOCOL, type HostHello, MAX_LINE_BYTES } from './wire.ts';

type Nothing = Record<string, never>;
type NamedCheckpoint = { session: string; fence: number; checkpoint: string };
type Waiting = { resolve(result: unknown): void; reject(error: Error): void };
type WireRead = Omit<ProcessRead, 'chunks'> & { chunks: { seq: number; stream: string; data: string }[] };

/** There was a host, and it went away: the next one may answer. */
class ConnectionLost extends HostUnreachable {}

/** Hosts that may die while they are being greeted. */
const greetings = 3;

/** One connection, greeted. */
class Connection {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #end: ConnectionLost | null = null;

  constructor(socket: Socket) {
    this.#socket = socket;
    readLines(
      socket,
      (line) => this.#receive(line),
      () => this.#fail('the host answered with too much'),
      MAX_LINE_BYTES,
    );
    socket.on('error', (error) => this.#fail(error.message));
    socket.on('close', () => this.#fail('the host closed the connection'));
  }

  get isOpen(): boolean {
    return this.#end === null;
  }

  close(): void {
    this.#fail('this client was closed');
  }

  call(method: string, params: object): Promise<unknown> {
    if (this.#end !== null) return Promise.reject(this.#end);
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(encodeLine({ jsonrpc: '2.0', id, method, params }));
      if (failpoints.on && method === 'process/start') failpointNow('engine.after-dispatch');
    });
  }

  #receive(line: string): void {
    const message = JSON.parse(line) as {
      id: number;
      result?: unknown;
      error?: { code: number; message: string };
    };
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.error === undefined) waiting?.resolve(message.result);
    else waiting?.reject(new Error(`host: ${message.error.message} (${message.error.code})`));
  }

  #fail(reason: string): void {
    if (this.#end !== null) return;
    this.#end = new ConnectionLost(reason);
    this.#socket.destroy();
    for (const waiting of this.#waiting.values()) waiting.reject(this.#end);
    this.#waiting.clear();
  }
}

export class HostClient implements Executor, Layers {
  readonly #dial: () => Promise<Socket>;
  readonly #role: 'owner' | 'observer';
  #connection: Connection | null = null;
  #connecting: Promise<Connection> | null = null;
  #isClosed = false;

  /** `dial` gives a connected socket, or rejects; it is called again after each loss. */
  constructor(dial: () => Promise<Socket>, role: 'owner' | 'observer' = 'owner') {
    this.#dial = dial;
    this.#role = role;
  }

  /** Lets the host go: without another owner it ends after its grace time. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#connecting?.catch(() => null);
    this.#connection?.close();
  }

  /** Whoever starts should not have to start twice because a host was just dying when it was found. */
  async hello(): Promise<HostHello> {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await this.#call('host/hello', { role: this.#role })) as HostHello;
      } catch (error) {
        if (!(error instanceof ConnectionLost) || this.#isClosed || attempt === greetings) throw error;
      }
    }
  }

  /** Ends the host and every sandbox it has. */
  async shutdownHost(): Promise<void> {
    await this.#call('host/shutdown', {});
  }

  async #connect(): Promise<Connection> {
    let socket: Socket;
    try {
      socket = await this.#dial();
    } catch (error) {
      throw error instanceof HostUnreachable ? error : new HostUnreachable((error as Error).message);
    }
    const connection = new Connection(socket);
    const { protocol } = (await connection.call('host/hello', { role: this.#role })) as HostHello;
    if (protocol !== HOST_PROTOCOL) {
      connection.close();
      throw new HostUnreachable(`a host of another release runs here (protocol ${protocol}); end it first`);
    }
    this.#connection = connection;
    return connection;
  }

  /** Whoever comes while another is dialling waits for the same connection. */
  #connected(): Promise<Connection> {
    if (this.#connection?.isOpen === true) return Promise.resolve(this.#connection);
    this.#connecting ??= this.#connect().finally(() => {
      this.#connecting = null;
    });
    return this.#connecting;
  }

  async #call(method: string, params: object): Promise<unknown> {
    if (this.#isClosed) throw new HostUnreachable('this client was closed');
    const connection = await this.#connected();
    return connection.call(method, params);
  }

  async createSandbox(spec: SandboxSpec): Promise<SandboxInfo | Refusal> {
    const made = (await this.#call('sandbox/create', spec)) as SandboxInfo | Refusal;
    return isRefusal(made) ? made : (networkLack(made, spec) ?? limitLack(made, spec) ?? made);
  }

  destroySandbox(request: {
    session: string;
    fence: number;
    removeDisk: boolean;
  }): Promise<Nothing | Refusal> {
    return this.#call('sandbox/destroy', request) as Promise<Nothing | Refusal>;
  }

  findLayer(request: { recipe: string }) {
    return this.#call('layer/find', request) as Promise<{
      host: string;
      layer: Layer | null;
      lock: Lock | null;
    }>;
  }

  sealLayer(request: object): Promise<Layer | Refusal> {
    return this.#call('layer/seal', request) as Promise<Layer | Refusal>;
  }

  listLayers() {
    return this.#call('layer/list', {}) as Promise<(LayerView & { host: string })[]>;
  }

  removeUnusedLayers(request: { olderThanMs: number }): Promise<{ removed: string[] }> {
    return this.#call('layer/removeUnused', request) as Promise<{ removed: string[] }>;
  }

  async startProcess(request: StartProcess): Promise<ProcessRead | Refusal> {
    const { stdin, ...rest } = request;
    const params = stdin === undefined ? rest : { ...rest, stdin: encodeBytes(stdin) };
    return decodeRead((await this.#call('process/start', params)) as WireRead | Refusal);
  }

  async readProcess(
    request: CallRef & { afterSeq: number; maxBytes: number; waitMs: number },
  ): Promise<ProcessRead | Refusal> {
    return decodeRead((await this.#call('process/read', request)) as WireRead | Refusal);
  }

  terminateProcess(request: CallRef): Promise<Nothing | Refusal> {
    return this.#call('process/terminate', request) as Promise<Nothing | Refusal>;
  }

  callStatus(request: CallRef): Promise<CallStatus | Refusal> {
    return this.#call('call/status', request) as Promise<CallStatus | Refusal>;
  }

  async readFile(request: {
    session: string;
    fence: number;
    path: string;
    offset?: number;
    maxBytes: number;
  }): Promise<FileRead | Refusal> {
    const read = (await this.#call('fs/readFile', request)) as
      | (Omit<FileRead, 'data'> & { data: string })
      | Refusal;
    return isRefusal(read) ? read : { ...read, data: Buffer.from(read.data, 'base64') };
  }

  stat(request: { session: string; fence: number; path: string }): Promise<FileStat | Refusal> {
    return this.#call('fs/stat', request) as Promise<FileStat | Refusal>;
  }

  walk(request: {
    session: string;
    fence: number;
    path: string;
    skipDirectories: string[];
    maxEntries: number;
    maxDepth: number;
  }): Promise<{ entries: FileStat[]; isWhole: boolean } | Refusal> {
    return this.#call('fs/walk', request) as Promise<{ entries: FileStat[]; isWhole: boolean } | Refusal>;
  }

  applyEdits(request: CallRef & { edits: Edit[] }): Promise<EditsDone | Refusal> {
    const edits = request.edits.map((edit) => ({
      ...edit,
      content: edit.content === null ? null : encodeBytes(edit.content),
    }));
    return this.#call('fs/applyEdits', { ...request, edits }) as Promise<EditsDone | Refusal>;
  }

  putUpload(request: {
    session: string;
    fence: number;
    name: string;
    offset: number;
    data: Uint8Array;
  }): Promise<Nothing | Refusal> {
    return this.#call('upload/put', { ...request, data: encodeBytes(request.data) }) as Promise<
      Nothing | Refusal
    >;
  }

  checkpoint(request: NamedCheckpoint): Promise<Checkpoint | Refusal> {
    return this.#call('checkpoint/make', request) as Promise<Checkpoint | Refusal>;
  }

  restore(request: CallRef & { from: CheckpointRef }): Promise<Nothing | Refusal> {
    return this.#call('checkpoint/restore', request) as Promise<Nothing | Refusal>;
  }

  removeCheckpoint(request: NamedCheckpoint): Promise<Nothing | Refusal> {
    return this.#call('checkpoint/remove', request) as Promise<Nothing | Refusal>;
  }

  checkpoints(request: { session: string; fence: number }): Promise<{ checkpoints: Checkpoint[] } | Refusal> {
    return this.#call('checkpoint/list', request) as Promise<{ checkpoints: Checkpoint[] } | Refusal>;
  }

  async readCheckpoint(
    request: NamedCheckpoint & { offset: number; maxBytes: number },
  ): Promise<CheckpointRead | Refusal> {
    const read = (await this.#call('checkpoint/read', request)) as
      | (Omit<CheckpointRead, 'data'> & { data: string })
      | Refusal;
    return isRefusal(read) ? read : { ...read, data: Buffer.from(read.data, 'base64') };
  }

  writeCheckpoint(
    request: NamedCheckpoint & { offset: number; data: Uint8Array; isLast: boolean },
  ): Promise<CheckpointWritten | Refusal> {
    const params = { ...request, data: encodeBytes(request.data) };
    return this.#call('checkpoint/write', params) as Promise<CheckpointWritten | Refusal>;
  }
}

function decodeRead(read: WireRead | Refusal): ProcessRead | Refusal {
  if (isRefusal(read)) return read;
  const chunks = read.chunks.map((chunk) => ({
    seq: chunk.seq,
    stream: chunk.stream as 'stdout' | 'stderr' | 'control',
    data: Buffer.from(chunk.data, 'base64'),
  }));
  return { ...read, chunks };
}
