/**
 * A process of the MemoryExecutor: what it wrote, in numbered chunks, and how it ended. A script writes to it.
 *
 * Keeps the port's rules: output beyond the limit is dropped and counted, control output never is, an end is final.
 */
import type { OutputChunk, ProcessRead, ProcessState, StartProcess } from '../../src/sandbox/executor.ts';

/** What a process does. It may keep `process` and write to it later. */
export type ProcessScript = (process: MemoryProcess, request: StartProcess) => void;

type Exit = Partial<Omit<Extract<ProcessState, { state: 'exited' }>, 'state'>>;

export class MemoryProcess {
  readonly chunks: OutputChunk[] = [];
  state: ProcessState = { state: 'running' };
  droppedBytes = 0;
  #outputBytes = 0;
  #changed = Promise.withResolvers<void>();
  readonly #request: StartProcess;

  constructor(request: StartProcess) {
    this.#request = request;
  }

  write(text: string | Uint8Array, stream: OutputChunk['stream'] = 'stdout'): this {
    const data = typeof text === 'string' ? Buffer.from(text) : text;
    const room = stream === 'control' ? data.length : this.#request.maxOutputBytes - this.#outputBytes;
    const kept = data.subarray(0, Math.max(0, room));
    if (stream !== 'control') this.#outputBytes += kept.length;
    this.droppedBytes += data.length - kept.length;
    const merged = this.#request.mergeStderr && stream === 'stderr' ? 'stdout' : stream;
    if (kept.length > 0) this.chunks.push({ seq: this.chunks.length + 1, stream: merged, data: kept });
    this.#notify();
    return this;
  }

  exit(exit: Exit = {}): void {
    const fields = { exitCode: exit.endedBy ? null : 0, signal: null, endedBy: null, durationMs: 1, ...exit };
    this.end({ state: 'exited', ...fields });
  }

  end(state: ProcessState): void {
    if (this.state.state !== 'running') return;
    this.state = state;
    this.#notify();
  }

  async read(afterSeq: number, maxBytes: number, waitMs: number): Promise<ProcessRead> {
    const hasNews = (): boolean => this.chunks.length > afterSeq || this.state.state !== 'running';
    if (!hasNews() && waitMs > 0) await this.#news(waitMs);
    const chunks: OutputChunk[] = [];
    for (let bytes = 0; afterSeq + chunks.length < this.chunks.length; ) {
      const next = this.chunks[afterSeq + chunks.length] as OutputChunk;
      if (chunks.length > 0 && bytes + next.data.length > maxBytes) break;
      chunks.push(next);
      bytes += next.data.length;
    }
    const nextSeq = chunks.at(-1)?.seq ?? afterSeq;
    return { chunks, nextSeq, droppedBytes: this.droppedBytes, process: this.state };
  }

  async waitForEnd(waitMs: number): Promise<void> {
    const endMs = performance.now() + waitMs;
    for (let left = waitMs; this.state.state === 'running' && left > 0; left = endMs - performance.now()) {
      await this.#news(left);
    }
  }

  async #news(waitMs: number): Promise<void> {
    const late = Promise.withResolvers<void>();
    const timer = setTimeout(late.resolve, waitMs);
    await Promise.race([this.#changed.promise, late.promise]);
    clearTimeout(timer);
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
