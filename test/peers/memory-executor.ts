/**
 * An Executor without a sandbox: files in a map, processes from a script, one journal. It is a peer, not a mock: it
 * keeps the port's promises (call ids used once, fences, edits all checked before any is made and rolled forward after a
 * loss) and can be told to misbehave as a real host may: unreachable before or after an effect, dead half way.
 */
import { createHash } from 'node:crypto';
import type {
  CallRef,
  CallStatus,
  Checkpoint,
  CheckpointRead,
  CheckpointRef,
  CheckpointWritten,
  Edit,
  EditsDone,
  Executor,
  FileRead,
  FileStat,
  ProcessRead,
  Refusal,
  SandboxInfo,
  SandboxSpec,
  StartProcess,
} from '../../src/sandbox/executor.ts';
import { HostUnreachable, isRefusal, sandboxPaths } from '../../src/sandbox/executor.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';
import { MemoryProcess, type ProcessScript } from './memory-process.ts';

export { MemoryProcess, type ProcessScript } from './memory-process.ts';

export type MemoryFile = { data: Uint8Array; mode: number; mtimeMs: number; type: 'file' | 'other' };

type EditsCall = {
  kind: 'edits';
  digest: string;
  edits: Edit[];
  made: EditsDone['files'];
  outcome: EditsDone | Refusal | null;
};
type Call = { kind: 'process'; digest: string; process: MemoryProcess } | EditsCall;

type InSandbox = { session: string; fence: number };
type Method = Exclude<keyof Executor, 'putUpload' | 'locate'>;

export class MemoryExecutor implements Executor {
  readonly files = new Map<string, MemoryFile>();
  readonly directories = new Set<string>(['/', '/tmp', ...Object.values(sandboxPaths)]);
  /** Every call that reached the host, in order. */
  readonly asked: { method: Method; callId?: string }[] = [];
  /** Requests of processes that really began; a repeated call id adds none. */
  readonly started: StartProcess[] = [];
  script: ProcessScript;
  #clockMs = 1_700_000_000_000;
  readonly #fences = new Map<string, number>();
  readonly #running = new Set<string>();
  readonly #calls = new Map<string, Call>();
  readonly #failures: { method: Method; when: 'before' | 'after' }[] = [];
  #dieAfterEdits: number | null = null;
  readonly #checkpoints = new MemoryCheckpoints(this.files, this.directories);

  /** How the host says that it keeps disks. */
  disk: SandboxInfo['disk'] | null = null;

  constructor(script: ProcessScript = (process) => process.exit()) {
    this.script = script;
  }

  /** A sandbox that runs for `session`, with these files (absolute paths). */
  static running(session: string, files: Record<string, string | Uint8Array> = {}): MemoryExecutor {
    const executor = new MemoryExecutor();
    executor.#running.add(session);
    for (const [path, content] of Object.entries(files)) executor.put(path, content);
    return executor;
  }

  put(path: string, content: string | Uint8Array, type: MemoryFile['type'] = 'file'): void {
    const data = typeof content === 'string' ? Buffer.from(content) : content;
    const mode = this.files.get(path)?.mode ?? 0o644;
    this.files.set(path, { data, mode, mtimeMs: this.#clockMs++, type });
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      this.directories.add(path.slice(0, end));
    }
  }

  text(path: string): string | undefined {
    const file = this.files.get(path);
    return file && Buffer.from(file.data).toString();
  }

  /** The next call of `method` breaks the connection: before it had an effect, or after. */
  breakNext(method: Method, when: 'before' | 'after'): void {
    this.#failures.push({ method, when });
  }

  /** The host dies after this many files of the next applyEdits. */
  dieAfterEdits(count: number): void {
    this.#dieAfterEdits = count;
  }

  /** The host and its sandboxes die: what ran is lost. */
  loseProcesses(reason: string): void {
    for (const call of this.#calls.values()) {
      if (call.kind === 'process') call.process.end({ state: 'lost', reason });
    }
  }

  /** The next host finishes the file changes that a dead one had begun. */
  finishEdits(): void {
    for (const call of this.#calls.values()) if (call.kind === 'edits') call.outcome ??= this.#make(call);
  }

  async createSandbox(spec: SandboxSpec): Promise<SandboxInfo | Refusal> {
    return this.#answer('createSandbox', spec, async () => {
      const reused = this.#running.has(spec.session);
      this.#running.add(spec.session);
      const network = 'none' as const;
      const limitsBy = 'rlimits' as const;
      return {
        isolation: spec.isolation,
        limitsBy,
        seccomp: false,
        ownUid: null,
        network,
        reused,
        ...(this.disk ? { disk: this.disk } : {}),
        warnings: [],
      };
    });
  }

  async destroySandbox(request: { session: string; fence: number; removeDisk: boolean }) {
    return this.#answer<Record<string, never>>('destroySandbox', request, async () => {
      this.loseProcesses('the sandbox was destroyed');
      this.#running.delete(request.session);
      if (request.removeDisk) this.files.clear();
      return {};
    });
  }

  async checkpoint(request: InSandbox & { checkpoint: string }): Promise<Checkpoint | Refusal> {
    return this.#answer('checkpoint', request, async () => this.#checkpoints.make(request));
  }

  async restore(request: CallRef & { from: CheckpointRef }): Promise<Record<string, never> | Refusal> {
    return this.#answer<Record<string, never>>('restore', request, async () => {
      if (this.#calls.has(key(request.session, request.callId)))
        return refuse('call_mismatch', 'the call id was used for something else');
      const refusal = this.#checkpoints.restore(request, () => {
        this.loseProcesses('the disk was restored');
        this.#running.delete(request.session);
      });
      return refusal ?? {};
    });
  }

  async removeCheckpoint(request: InSandbox & { checkpoint: string }) {
    return this.#answer<Record<string, never>>('removeCheckpoint', request, async () =>
      this.#checkpoints.remove(request),
    );
  }

  async checkpoints(request: InSandbox): Promise<{ checkpoints: Checkpoint[] } | Refusal> {
    return this.#answer('checkpoints', request, async () => this.#checkpoints.list(request.session));
  }

  async readCheckpoint(request: InSandbox & { checkpoint: string; offset: number; maxBytes: number }) {
    return this.#answer<CheckpointRead>('readCheckpoint', request, async () =>
      this.#checkpoints.read(request),
    );
  }

  async writeCheckpoint(
    request: InSandbox & { checkpoint: string; offset: number; data: Uint8Array; isLast: boolean },
  ) {
    return this.#answer<CheckpointWritten>('writeCheckpoint', request, async () =>
      this.#checkpoints.write(request),
    );
  }

  async startProcess(request: StartProcess): Promise<ProcessRead | Refusal> {
    return this.#answer('startProcess', request, async () => {
      const { session, callId, argv, cwd, waitMs } = request;
      const digest = hash(
        JSON.stringify([argv, cwd, request.env ?? null, request.timeoutMs, request.mergeStderr]),
      );
      let call = this.#known(session, callId, 'process', digest);
      if (call && isRefusal(call)) return call;
      if (!call) {
        if (!this.#running.has(session)) return refuse('no_sandbox', 'no sandbox runs for this session');
        if (!this.directories.has(cwd)) return refuse('not_found', `${cwd} does not exist`);
        call = { kind: 'process', digest, process: new MemoryProcess(request) };
        this.#calls.set(key(session, callId), call);
        this.started.push(request);
        this.script(call.process, request);
      }
      if (call.kind !== 'process') return refuse('call_mismatch', 'this call id is a file change');
      await call.process.waitForEnd(waitMs);
      return call.process.read(0, Number.POSITIVE_INFINITY, 0);
    });
  }

  async readProcess(request: CallRef & { afterSeq: number; maxBytes: number; waitMs: number }) {
    return this.#answer('readProcess', request, async () => {
      const call = this.#calls.get(key(request.session, request.callId));
      if (call?.kind !== 'process') return refuse('not_found', 'no such process');
      return call.process.read(request.afterSeq, request.maxBytes, request.waitMs);
    });
  }

  async terminateProcess(request: CallRef): Promise<Record<string, never> | Refusal> {
    return this.#answer<Record<string, never>>('terminateProcess', request, async () => {
      const call = this.#calls.get(key(request.session, request.callId));
      if (call?.kind !== 'process') return refuse('not_found', 'no such process');
      call.process.exit({ exitCode: null, signal: 'SIGKILL', endedBy: 'terminate' });
      return {};
    });
  }

  async callStatus(request: CallRef): Promise<CallStatus | Refusal> {
    return this.#answer<CallStatus>('callStatus', request, async () => {
      const call = this.#calls.get(key(request.session, request.callId));
      if (!call) return { kind: 'unknown' };
      if (call.kind === 'process') return { kind: 'process', process: call.process.state };
      if (call.outcome) return { kind: 'edits', state: 'done', outcome: call.outcome };
      return { kind: 'edits', state: 'lost', reason: 'the host died while it made the changes' };
    });
  }

  async readFile(request: {
    session: string;
    fence: number;
    path: string;
    offset?: number;
    maxBytes: number;
  }) {
    return this.#answer<FileRead>('readFile', request, async () => {
      const file = this.files.get(request.path);
      if (this.directories.has(request.path) || file?.type === 'other')
        return refuse('not_a_file', request.path);
      if (!file) return refuse('not_found', request.path);
      const offset = request.offset ?? 0;
      const data = file.data.subarray(offset, offset + request.maxBytes);
      return { data, sizeBytes: file.data.length, isWhole: data.length === file.data.length };
    });
  }

  async stat(request: { session: string; fence: number; path: string }): Promise<FileStat | Refusal> {
    return this.#answer('stat', request, async () => this.#stat(request.path));
  }

  async walk(request: {
    session: string;
    fence: number;
    path: string;
    skipDirectories: string[];
    maxEntries: number;
    maxDepth: number;
  }) {
    return this.#answer<{ entries: FileStat[]; isWhole: boolean }>('walk', request, async () => {
      if (this.files.has(request.path)) return refuse('not_a_directory', request.path);
      if (!this.directories.has(request.path)) return refuse('not_found', request.path);
      const root = request.path === '/' ? '/' : `${request.path}/`;
      const entries = [...this.directories, ...this.files.keys()].flatMap((path) => {
        const steps = path.startsWith(root) && path !== root ? path.slice(root.length).split('/') : [];
        if (steps.length === 0 || steps.length > request.maxDepth) return [];
        const stat = this.#stat(path);
        const inside = stat && !isRefusal(stat) && stat.type === 'directory' ? steps : steps.slice(0, -1);
        return isRefusal(stat) || inside.some((step) => request.skipDirectories.includes(step)) ? [] : [stat];
      });
      return { entries: entries.slice(0, request.maxEntries), isWhole: entries.length <= request.maxEntries };
    });
  }

  async applyEdits(request: CallRef & { edits: Edit[] }): Promise<EditsDone | Refusal> {
    return this.#answer('applyEdits', request, async () => {
      const { session, callId, edits } = request;
      const digest = hash(
        JSON.stringify(edits.map((edit) => ({ ...edit, content: edit.content && hash(edit.content) }))),
      );
      let call = this.#known(session, callId, 'edits', digest);
      if (call && isRefusal(call)) return call;
      if (!call) {
        call = { kind: 'edits', digest, edits, made: [], outcome: this.#firstConflict(edits) };
        this.#calls.set(key(session, callId), call);
      }
      if (call.kind !== 'edits') return refuse('call_mismatch', 'this call id is a process');
      call.outcome ??= this.#make(call);
      return call.outcome;
    });
  }

  async putUpload(request: {
    session: string;
    fence: number;
    name: string;
    offset: number;
    data: Uint8Array;
  }) {
    const path = `${sandboxPaths.uploads}/${request.name}`;
    const before = request.offset === 0 ? undefined : this.files.get(path)?.data.subarray(0, request.offset);
    this.put(path, Buffer.concat([before ?? new Uint8Array(), request.data]));
    return {};
  }

  /** Rolls forward: files that were made before a loss are not made again. */
  #make(call: EditsCall): EditsDone {
    for (const edit of call.edits.slice(call.made.length)) {
      if (this.#dieAfterEdits !== null && call.made.length >= this.#dieAfterEdits) {
        this.#dieAfterEdits = null;
        throw new HostUnreachable('the host died');
      }
      const existed = this.files.has(edit.path);
      if (edit.content === null) this.files.delete(edit.path);
      else this.put(edit.path, edit.content);
      const sha256 = edit.content && hash(edit.content);
      call.made.push({ path: edit.path, sizeBytes: edit.content?.length ?? 0, sha256, existed });
    }
    return { files: call.made };
  }

  #firstConflict(edits: Edit[]): Refusal | null {
    for (const { path, expectSha256, content } of edits) {
      const file = this.files.get(path);
      if (this.directories.has(path)) return refuse('not_a_file', path);
      const sha256 = file ? hash(file.data) : null;
      if (expectSha256 !== undefined && sha256 !== expectSha256) return refuse('changed', path);
      if (content === null && !file) return refuse('not_found', path);
    }
    return null;
  }

  #stat(path: string): FileStat | Refusal {
    const file = this.files.get(path);
    if (file)
      return { path, type: file.type, sizeBytes: file.data.length, mtimeMs: file.mtimeMs, mode: file.mode };
    if (!this.directories.has(path)) return refuse('not_found', path);
    return { path, type: 'directory', sizeBytes: 0, mtimeMs: 0, mode: 0o755 };
  }

  #known(session: string, callId: string, kind: Call['kind'], digest: string): Call | Refusal | undefined {
    const call = this.#calls.get(key(session, callId));
    const isSame = call?.kind === kind && call.digest === digest;
    return call && !isSame ? refuse('call_mismatch', 'the call id was used with other content') : call;
  }

  async #answer<T extends object>(
    method: Method,
    request: { session: string; fence: number; callId?: string },
    perform: () => Promise<T | Refusal>,
  ): Promise<T | Refusal> {
    const index = this.#failures.findIndex((failure) => failure.method === method);
    const [failure] = index < 0 ? [] : this.#failures.splice(index, 1);
    if (failure?.when === 'before') throw new HostUnreachable('connection refused');
    this.asked.push({ method, ...(request.callId !== undefined && { callId: request.callId }) });
    const highest = this.#fences.get(request.session) ?? 0;
    if (request.fence < highest) return refuse('fenced', `fence ${request.fence} is older than ${highest}`);
    this.#fences.set(request.session, request.fence);
    const answer = await perform();
    if (failure?.when === 'after') throw new HostUnreachable('the connection broke');
    return answer;
  }
}

function key(session: string, callId: string): string {
  return `${session} ${callId}`;
}

function hash(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex');
}

function refuse(refused: Refusal['refused'], message: string): Refusal {
  return { refused, message };
}
