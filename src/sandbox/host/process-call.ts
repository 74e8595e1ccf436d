/**
 * One `process/start`: its state, its output, who waits for it.
 *
 * Promises
 * - The state goes from running to exited or lost once, and the journal has the ending before anybody hears of it.
 * - Output beyond `maxOutputBytes`, or the session's limit where that is less, is dropped inside the sandbox and counted; the program never blocks on it.
 */
import { constants } from 'node:os';
import { failpointNow, failpoints } from '../../protocol/failpoint.ts';
import type { Limits, ProcessRead, ProcessState, StartProcess } from '../executor.ts';
import { type CallHandlers, type GuestEnding, type GuestLink, MAX_LIVE_CALLS } from '../guest/link.ts';
import type { LimitCounters, LimitHit } from '../limits.ts';
import { CallLimits } from './call-limits.ts';
import type { Journal } from './journal.ts';
import type { OutputLog } from './output.ts';

const CREDIT_BYTES = 1 << 20;
const CONTROL_STREAM = 2;
const UNKILLABLE_MS = 10_000;
const MAX_CONTROL_BYTES = 64 << 10;
/** In answer to `process/start`; the rest is read with `process/read`. */
export const MAX_READ_BYTES = 8 << 20;

type Ended = { signal: string | null; exitCode: number | null; hasNotStarted: boolean };

export class ProcessCall {
  readonly kind = 'process';
  readonly callId: string;
  readonly contentHash: string;
  readonly output: OutputLog;
  state: ProcessState;
  droppedBytes = 0;
  #linkId: number | null = null;
  #link: GuestLink | null = null;
  #endedBy: 'timeout' | 'terminate' | 'lifetime' | null = null;
  #storedBytes = 0;
  #controlBytes = 0;
  #isCapped = false;
  #startedMs = performance.now();
  #timer: NodeJS.Timeout | null = null;
  #limits: CallLimits | null = null;
  #waiters = new Set<() => void>();
  readonly #gone = Promise.withResolvers<void>();
  onFinished: () => void = () => {};

  constructor(
    callId: string,
    contentHash: string,
    output: OutputLog,
    state: ProcessState = { state: 'running' },
  ) {
    this.callId = callId;
    this.contentHash = contentHash;
    this.output = output;
    this.state = state;
    if (state.state !== 'running') this.#gone.resolve();
  }

  /** Starts it for real; the journal has the intent by now. */
  start(
    link: GuestLink,
    request: StartProcess & { env: Record<string, string> },
    journal: Journal,
    bounds: { limits: Limits | null; counters: () => LimitCounters },
  ): void {
    this.#link = link;
    const limits = new CallLimits(request, bounds.limits, bounds.counters);
    this.#limits = limits;
    this.#startedMs = performance.now();
    const handlers: CallHandlers = {
      onOutput: (stream, data) => this.#store(limits.maxOutputBytes, stream, data),
      onExit: (ending, dropped) => void this.#exited(ending, dropped, journal),
      onGone: () => this.#gone.resolve(),
    };
    if (link.liveCalls >= MAX_LIVE_CALLS) {
      // Many came at once and passed the check before the journal together.
      this.#gone.resolve();
      void this.#exited({ how: 'failed', errno: constants.errno.EAGAIN }, 0, journal);
      return;
    }
    const env = Object.entries(request.env).map(([name, value]) => `${name}=${value}`);
    const { argv, cwd, stdin, mergeStderr } = request;
    const options = { argv, cwd, env, stdin: stdin ?? null, mergeStderr, creditBytes: CREDIT_BYTES };
    this.output.onWritten = (bytes) => this.#credit(bytes);
    this.#linkId = link.spawn(options, handlers);
    // A terminate that came while the journal was being synced.
    if (this.#endedBy !== null) link.kill(this.#linkId);
    this.#timer = setTimeout(() => {
      this.#kill('timeout');
      // Something that even SIGKILL does not end takes its sandbox with it.
      this.#timer = setTimeout(() => link.end('a call could not be killed'), UNKILLABLE_MS);
    }, limits.timeoutMs);
  }

  /** Counters of its sandbox up to which it has told. */
  get told(): LimitCounters | null {
    return this.#limits?.told ?? null;
  }

  /** Its sandbox or host is gone. What it did before that nobody can know (L6). */
  lose(reason: string, journal: Journal): void {
    this.#gone.resolve();
    if (this.state.state !== 'running') return;
    this.#settle({ state: 'lost', reason, ...this.#hits(null) }, journal);
  }

  /** Settles when no process of the call is left. */
  terminate(): Promise<void> {
    if (this.state.state === 'running') this.#kill('terminate');
    else if (this.#linkId !== null) this.#link?.kill(this.#linkId);
    return this.#gone.promise;
  }

  /** Its sandbox has lived for as long as it may. Settles when no process of the call is left. */
  outlive(): Promise<void> {
    if (this.state.state !== 'running') return Promise.resolve();
    this.#kill('lifetime');
    return this.#gone.promise;
  }

  #kill(why: 'timeout' | 'terminate' | 'lifetime'): void {
    if (this.state.state === 'running') this.#endedBy ??= why;
    if (this.#linkId !== null) this.#link?.kill(this.#linkId);
  }

  #store(maxOutputBytes: number, stream: number, data: Buffer): void {
    // The control stream has a cap of its own: a flood of output must not cost the caller what it says at the end.
    const isControl = stream === CONTROL_STREAM;
    const cap = isControl ? MAX_CONTROL_BYTES : maxOutputBytes;
    const room = Math.max(0, cap - (isControl ? this.#controlBytes : this.#storedBytes));
    const kept = data.length <= room ? data : data.subarray(0, room);
    const storedBytes = kept.length > 0 && this.output.append(stream, kept) ? kept.length : 0;
    const lostBytes = data.length - storedBytes;
    this.droppedBytes += lostBytes;
    // What is stored is credited once it is in the file; what is not must not cost the window anything.
    if (lostBytes > 0) this.#credit(lostBytes);
    if (isControl) this.#controlBytes += storedBytes;
    else this.#storedBytes += storedBytes;
    if (!isControl && !this.#isCapped && this.#storedBytes >= cap) {
      this.#isCapped = true;
      this.#link?.discard(this.#linkId as number);
    }
    this.#wake();
  }

  #credit(bytes: number): void {
    if (this.#linkId !== null) this.#link?.credit(this.#linkId, bytes);
  }

  async #exited(ending: GuestEnding, dropped: number, journal: Journal): Promise<void> {
    this.droppedBytes += dropped;
    const ended = this.#endedAs(ending);
    const durationMs = this.#durationMs();
    const isOutOfMemory =
      (ended.signal === 'SIGKILL' || ended.exitCode === 137) && (this.#limits?.oomKills() ?? 0) > 0;
    // Before anything is waited for: what is counted from now on is not of this call.
    const hits = this.#hits(ended);
    const writeError = await this.output.finish();
    if (writeError !== null)
      process.stderr.write(`output of ${this.callId} not stored: ${writeError.message}\n`);
    if (this.state.state !== 'running') return;
    if (failpoints.on) failpointNow('host.after-exit-before-journal');
    const endedBy = this.#endedBy ?? (isOutOfMemory ? 'memory' : null);
    const { exitCode, signal } = ended;
    this.#settle({ state: 'exited', exitCode, signal, endedBy, durationMs, ...hits }, journal);
  }

  #endedAs(ending: GuestEnding): Ended {
    const signal = ending.how === 'signalled' ? signalName(ending.signal) : null;
    if (ending.how !== 'failed')
      return { signal, exitCode: ending.how === 'exited' ? ending.exitCode : null, hasNotStarted: false };
    // The sandbox could not even fork: like a shell that cannot, 126 and a line on stderr.
    const name = Object.entries(constants.errno).find(([, number]) => number === ending.errno)?.[0];
    this.output.append(1, Buffer.from(`cannot start a process: ${name ?? ending.errno}\n`));
    return { signal, exitCode: 126, hasNotStarted: ending.errno === constants.errno.EAGAIN };
  }

  #durationMs(): number {
    return Math.round(performance.now() - this.#startedMs);
  }

  #hits(ended: Ended | null): { limits?: LimitHit[] } {
    const limits = this.#limits?.hits({
      isTimeout: this.#endedBy === 'timeout',
      isLifetime: this.#endedBy === 'lifetime',
      droppedBytes: this.droppedBytes,
      durationMs: this.#durationMs(),
      hasNotStarted: ended?.hasNotStarted ?? false,
    });
    return limits === undefined || limits.length === 0 ? {} : { limits };
  }

  #settle(state: Exclude<ProcessState, { state: 'running' }>, journal: Journal): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.state = state;
    const record = {
      type: 'exit',
      callId: this.callId,
      process: state,
      droppedBytes: this.droppedBytes,
    } as const;
    // Not waited for: with the process it cannot be lost any more, and with the machine the call is honestly `lost`.
    try {
      journal.written(record);
    } catch (error) {
      process.stderr.write(`journal of ${this.callId}: ${(error as Error).message}\n`);
    }
    if (state.state === 'lost') void this.output.finish();
    this.#wake();
    this.onFinished();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }

  /** Until something changes, or for that long. */
  async #change(waitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, waitMs);
    this.#waiters.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiters.delete(resolve);
  }

  async waitForEnd(waitMs: number): Promise<void> {
    const endMs = performance.now() + waitMs;
    for (let left = waitMs; this.state.state === 'running' && left > 0; left = endMs - performance.now())
      await this.#change(left);
  }

  async read(afterSeq: number, maxBytes: number, waitMs: number): Promise<ProcessRead> {
    const endMs = performance.now() + waitMs;
    for (let left = waitMs; left > 0; left = endMs - performance.now()) {
      if (this.state.state !== 'running' || this.output.lastSeq > afterSeq) break;
      await this.#change(left);
    }
    // Before the chunks: an exit that comes in between must not be told with less than all that preceded it.
    const { state, droppedBytes } = this;
    const chunks = await this.output.read(afterSeq, maxBytes);
    return { chunks, nextSeq: chunks.at(-1)?.seq ?? afterSeq, droppedBytes, process: state };
  }
}

function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}
