/**
 * One journalled process from start to end, over the Executor port: start or re-attach, read by long poll, show what
 * comes, and stop its whole tree when the turn is interrupted.
 *
 * Promises kept here
 * - L5, L6: the call id is used once; starting again with it only attaches. Output is read from the journal from the
 *   first chunk on, so what a takeover returns is what the first engine would have returned.
 * - An interrupt is an ending, not an exception; a command that finished before the kill reached it keeps its result.
 */
import type {
  Executor,
  OutputChunk,
  ProcessRead,
  ProcessState,
  Refusal,
  StartProcess,
} from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import { ControlSequenceFilter } from './terminal-text.ts';
import type { ToolContext } from './tool.ts';

export const maxOutputBytes = 16 * 1024 * 1024;

/** `afterSeq` that means: from the first chunk on. */
const fromTheStart = 0;
const readBytes = 1024 * 1024;
const pollMs = 20_000;
/** The start answers only at the end or after this: short commands save a round trip, long ones show soon. */
const startWaitMs = 300;
/** An ended process's answer with less than this holds all there is; a fuller one may have been cut by the host. */
const surelyWholeBytes = 64 * 1024;
/** Polls after a kill before we stop believing that it will be confirmed. */
const pollsAfterKill = 5;
const pollAfterKillMs = 2_000;

export type ProcessEnding = {
  /** stdout, or stdout and stderr where merged. */
  output: Uint8Array;
  stderr: Uint8Array;
  control: Uint8Array;
  droppedBytes: number;
  /** `running` only where a kill was never confirmed. */
  process: ProcessState;
  /** Why we asked for its end, if we did. */
  killedFor: 'interrupt' | 'enough_output' | null;
};

export type ProcessRequest = Omit<StartProcess, 'session' | 'fence' | 'callId' | 'waitMs'> & {
  /** Where it is not the context's own: helpers of a call have ids derived from it. */
  callId?: string;
  /** Kill it once it wrote this much. */
  enoughBytes?: number;
};

export async function runProcess(
  context: ToolContext,
  request: ProcessRequest,
): Promise<ProcessEnding | Refusal> {
  const { enoughBytes, callId = context.callId, ...start } = request;
  const follower = new Follower(context, callId, enoughBytes ?? Number.POSITIVE_INFINITY);
  const { session, fence } = context;
  return follower.follow(
    context.executor.startProcess({ ...start, session, fence, callId, waitMs: startWaitMs }),
  );
}

/** Reads a process that was started before, from its first byte; returns when it ended. */
export async function attachProcess(context: ToolContext): Promise<ProcessEnding | Refusal> {
  const follower = new Follower(context, context.callId, Number.POSITIVE_INFINITY);
  return follower.follow(follower.read(fromTheStart, pollMs));
}

class Follower {
  readonly #executor: Executor;
  readonly #context: ToolContext;
  readonly #callId: string;
  readonly #enoughBytes: number;
  readonly #streams = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[], control: [] as Uint8Array[] };
  readonly #live: LiveText | null;
  #outputBytes = 0;
  #droppedBytes = 0;
  #killedFor: ProcessEnding['killedFor'] = null;

  constructor(context: ToolContext, callId: string, enoughBytes: number) {
    this.#executor = context.executor;
    this.#context = context;
    this.#callId = callId;
    this.#enoughBytes = enoughBytes;
    this.#live = context.onOutput ? new LiveText(context.onOutput) : null;
  }

  async follow(first: Promise<ProcessRead | Refusal>): Promise<ProcessEnding | Refusal> {
    let answer = await this.#untilAbort(first);
    let polls = 0;
    while (true) {
      if (isRefusal(answer)) return answer;
      const chunkBytes = this.#take(answer);
      const isRunning = answer.process.state === 'running';
      if (!isRunning && chunkBytes < surelyWholeBytes) return this.#ending(answer.process);
      if (isRunning && this.#reasonToKill() && polls++ >= pollsAfterKill) return this.#ending(answer.process);
      if (isRunning && this.#reasonToKill()) await this.#kill();
      answer = await this.#untilAbort(this.read(answer.nextSeq, this.#killedFor ? pollAfterKillMs : pollMs));
    }
  }

  read(afterSeq: number, waitMs: number): Promise<ProcessRead | Refusal> {
    return this.#executor.readProcess({ ...this.#call(), afterSeq, maxBytes: readBytes, waitMs });
  }

  #call(): { session: string; fence: number; callId: string } {
    return { session: this.#context.session, fence: this.#context.fence, callId: this.#callId };
  }

  /** The answer; an abort while it is waited for kills at once, which ends the wait. */
  async #untilAbort<T>(answer: Promise<T>): Promise<T> {
    const { signal } = this.#context;
    if (this.#killedFor) return answer;
    const { promise, resolve } = Promise.withResolvers<'aborted'>();
    const onAbort = (): void => resolve('aborted');
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const winner = await Promise.race([answer, promise]);
      if (winner !== 'aborted') return winner;
      // Observed now, so that a broken connection does not reject twice while we wait for the kill.
      answer.catch(() => {});
      await this.#kill();
      return await answer;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #reasonToKill(): ProcessEnding['killedFor'] {
    if (this.#killedFor === 'interrupt' || this.#context.signal.aborted) return 'interrupt';
    return this.#outputBytes >= this.#enoughBytes ? 'enough_output' : null;
  }

  async #kill(): Promise<void> {
    this.#killedFor = this.#reasonToKill();
    // A refusal (not started yet, ended already, fenced) shows in the next read.
    await this.#executor.terminateProcess(this.#call());
  }

  #take(read: ProcessRead): number {
    let bytes = 0;
    for (const chunk of read.chunks) {
      this.#streams[chunk.stream].push(chunk.data);
      bytes += chunk.data.length;
      if (chunk.stream !== 'control') this.#outputBytes += chunk.data.length;
      this.#live?.push(chunk);
    }
    this.#droppedBytes = Math.max(this.#droppedBytes, read.droppedBytes);
    return bytes;
  }

  #ending(process: ProcessState): ProcessEnding {
    this.#live?.end();
    return {
      output: Buffer.concat(this.#streams.stdout),
      stderr: Buffer.concat(this.#streams.stderr),
      control: Buffer.concat(this.#streams.control),
      droppedBytes: this.#droppedBytes,
      process,
      killedFor: this.#killedFor,
    };
  }
}

/** Chunks cut anywhere, shown as whole characters without control sequences. */
class LiveText {
  readonly #decoder = new TextDecoder();
  readonly #filter = new ControlSequenceFilter();
  readonly #show: (text: string) => void;

  constructor(show: (text: string) => void) {
    this.#show = show;
  }

  push(chunk: OutputChunk): void {
    if (chunk.stream === 'control') return;
    const text = this.#filter.push(this.#decoder.decode(chunk.data, { stream: true }));
    if (text !== '') this.#show(text);
  }

  end(): void {
    const text = this.#filter.push(this.#decoder.decode()) + this.#filter.end();
    if (text !== '') this.#show(text);
  }
}
