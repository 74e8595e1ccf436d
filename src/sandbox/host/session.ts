/**
 * One session on this host: its disk, its journal, its calls, and its sandbox while there is one.
 *
 * Promises
 * - A fence lower than the highest seen is refused, durably; a higher one is on disk before it is acted upon. Calls that
 *   were begun under a lower one are held still until the new owner asks about a call.
 * - L5, L6: a call is journalled before it starts and is started once for ever; asking again answers what is known.
 * - A sandbox that ended takes its running calls with it as `lost`; edits that were begun are finished by the next one.
 */
import { createHash } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { failpoint, failpoints } from '../../protocol/failpoint.ts';
import type { RunningSandbox, SessionFolders } from '../backend.ts';
import type { CallStatus, ProcessState, Refusal, SandboxInfo, SandboxSpec } from '../executor.ts';
import { isRefusal } from '../executor.ts';
import { DiskLedger, type DiskRecord } from '../snapshot/ledger.ts';
import { EditsCall, unjournalled } from './edits-call.ts';
import { Journal, type JournalRecord } from './journal.ts';
import { renewNetwork } from './network.ts';
import { OutputLog } from './output.ts';
import { ProcessCall } from './process-call.ts';
import { SessionLimits } from './session-limits.ts';

export type StartSandbox = (session: Session, spec: SandboxSpec) => Promise<RunningSandbox | Refusal>;

const KEPT_IN_MEMORY = 4;
/** What is not killed by then dies with its sandbox, and is `lost`. */
const OUTLIVE_MS = 5000;

export class Session {
  readonly id: string;
  readonly folder: string;
  uid: number | null = null;
  spec: SandboxSpec | null = null;
  readonly ledger = new DiskLedger();
  /** Whether leftovers of its disk were looked for since it was opened. */
  isSwept = false;
  sandbox: RunningSandbox | null = null;
  /** For the idle clock: when something was last asked, and how much is being asked now. */
  lastUsedMs = performance.now();
  requests = 0;
  readonly limits = new SessionLimits();
  /** Whether whoever uses the session must create its sandbox anew; false when it was only stopped for idleness. */
  #isGone = true;
  #fence = 0;
  #thaw: (() => void) | null = null;
  #holding: Promise<void> | null = null;
  #ending: Promise<void> = Promise.resolve();
  #journal: Journal | null = null;
  readonly #calls = new Map<string, ProcessCall | EditsCall>();
  readonly #finished: ProcessCall[] = [];
  readonly #startSandbox: StartSandbox;
  /** Creating and destroying take turns. */
  #turn: Promise<unknown> = Promise.resolve();
  #turns = 0;

  constructor(id: string, folder: string, startSandbox: StartSandbox) {
    this.id = id;
    this.folder = folder;
    this.#startSandbox = startSandbox;
  }

  get folders(): SessionFolders {
    return this.foldersAt(this.folder);
  }

  /** With the disk at `root`; uploads are the host's, beside it. */
  foldersAt(root: string): SessionFolders {
    const below = (name: string): string => path.join(root, name);
    return {
      workspace: below('workspace'),
      outputs: below('outputs'),
      home: below('home'),
      uploads: path.join(this.folder, 'uploads'),
    };
  }

  get journal(): Journal {
    if (this.#journal === null) throw new Error(`session ${this.id} is not open`);
    return this.#journal;
  }

  /** A disk of plain folders in its own. `uid` owns what the sandbox writes. */
  static makeDisk(folder: string, uid: number | null): void {
    Session.makeFolder(folder);
    for (const name of ['workspace', 'outputs', 'home']) {
      mkdirSync(path.join(folder, name), { recursive: true, mode: 0o700 });
      if (uid !== null) chownSync(path.join(folder, name), uid, uid);
    }
  }

  /** What the host keeps of a new session; its disk is made with its first sandbox. */
  static makeFolder(folder: string): void {
    mkdirSync(path.join(folder, 'out'), { recursive: true, mode: 0o700 });
    // Owned by the host: the session reads it through a read-only mount, and paths in it are ours to resolve.
    mkdirSync(path.join(folder, 'uploads'), { recursive: true });
    chmodSync(path.join(folder, 'uploads'), 0o755);
  }

  open(): void {
    this.#journal = Journal.open(path.join(this.folder, 'journal'), (record) => this.#recall(record));
    for (const call of this.#calls.values())
      if (call.kind === 'process') call.lose('the host was restarted while it ran', this.journal);
  }

  #recall(record: JournalRecord): void {
    if ('fence' in record) this.#fence = Math.max(this.#fence, record.fence);
    switch (record.type) {
      case 'limit':
      case 'limits_told':
        this.limits.recall(record);
        return;
      case 'session':
        this.uid = record.uid;
        return;
      case 'spec':
        this.spec = record.spec;
        return;
      case 'start':
        this.#calls.set(record.callId, this.#processCall(record.callId, record.contentHash, true));
        return;
      case 'edits': {
        const edits = record.edits.map(unjournalled);
        this.#calls.set(record.callId, new EditsCall(record.callId, record.contentHash, edits));
        return;
      }
      case 'exit': {
        const call = this.#calls.get(record.callId);
        if (call?.kind === 'process') this.#recallExit(call, record.process, record.droppedBytes);
        return;
      }
      case 'edited': {
        const call = this.#calls.get(record.callId);
        if (call?.kind !== 'edits') return;
        call.outcome = record.outcome;
        call.edits = null;
        return;
      }
      case 'disk':
      case 'checkpoint':
      case 'checkpoint-removed':
        this.ledger.recall(record);
        if (record.type === 'disk' && record.restore !== undefined) this.giveUpEdits();
        return;
    }
  }

  #recallExit(call: ProcessCall, state: ProcessState, droppedBytes: number): void {
    const again = new ProcessCall(call.callId, call.contentHash, call.output, state);
    again.droppedBytes = droppedBytes;
    this.#calls.set(call.callId, again);
  }

  #processCall(callId: string, contentHash: string, isOld: boolean): ProcessCall {
    // Call ids are the engine's and become no file names.
    const name = createHash('sha256').update(callId).digest('hex').slice(0, 40);
    return new ProcessCall(callId, contentHash, new OutputLog(path.join(this.folder, 'out', name), isOld));
  }

  /** Lets an engine in, or says that a newer one owns the session. */
  async admit(fence: number): Promise<Refusal | null> {
    if (fence < this.#fence)
      return {
        refused: 'fenced',
        message: `fence ${fence} is older than ${this.#fence} of session ${this.id}`,
      };
    if (fence > this.#fence) {
      this.#fence = fence;
      // Before the new owner acts: what the old one began holds still until somebody asks about it.
      this.#holding = this.#holdStill();
      await this.#holding;
      await this.journal.append({ type: 'fence', fence });
    } else await this.#holding;
    return null;
  }

  async #holdStill(): Promise<void> {
    if (this.#thaw !== null || this.runningCalls() === 0) return;
    this.#thaw = (await this.sandbox?.freeze?.()) ?? null;
  }

  /** The new owner has asked about a call: it knows of what runs. */
  thaw(): void {
    this.#thaw?.();
    this.#thaw = null;
  }

  call(callId: string): ProcessCall | EditsCall | undefined {
    return this.#calls.get(callId);
  }

  /** Journals a new process call. The caller starts it when this settles. */
  async beginProcess(callId: string, contentHash: string, fence: number): Promise<ProcessCall> {
    const call = this.#processCall(callId, contentHash, false);
    this.#calls.set(callId, call);
    await this.#begin(callId, { type: 'start', fence, callId, contentHash, atMs: Date.now() });
    return call;
  }

  async beginEdits(call: EditsCall, record: JournalRecord): Promise<void> {
    this.#calls.set(call.callId, call);
    await this.#begin(call.callId, record);
  }

  /** What could not be journalled was never asked: it is forgotten, so that it may be asked again. */
  async #begin(callId: string, record: JournalRecord): Promise<void> {
    try {
      await this.journal.append(record);
      if (failpoints.on) await failpoint('host.after-journal-write');
    } catch (error) {
      this.#calls.delete(callId);
      throw error;
    }
  }

  /** The newest few ended calls keep their output in memory: it is about to be read. */
  finished(call: ProcessCall): void {
    if (call.told !== null) this.limits.told(call.told);
    this.#finished.push(call);
    if (this.#finished.length > KEPT_IN_MEMORY) this.#finished.shift()?.output.release();
  }

  status(callId: string): CallStatus {
    const call = this.#calls.get(callId);
    if (call === undefined) return { kind: 'unknown' };
    if (call.kind === 'process') return { kind: 'process', process: call.state };
    if (call.outcome !== null) return { kind: 'edits', state: 'done', outcome: call.outcome };
    return { kind: 'edits', state: 'running' };
  }

  hasPendingEdits(): boolean {
    return [...this.#calls.values()].some((call) => call.kind === 'edits' && call.outcome === null);
  }

  runningCalls(): number {
    let running = 0;
    for (const call of this.#calls.values())
      if (call.kind === 'process' ? call.state.state === 'running' : call.running !== null) running++;
    return running;
  }

  /** Finds the sandbox running, and lets it have another ticket; or starts it. */
  create(spec: SandboxSpec): Promise<SandboxInfo | Refusal> {
    return this.#inTurn(async () => {
      const { sandbox } = this;
      if (sandbox !== null && !sandbox.link.hasEnded) {
        const refusal = await renewNetwork(sandbox, spec);
        if (refusal !== null) return refusal;
        const { network } = spec;
        if (network !== undefined) await this.#remember({ ...(this.spec ?? spec), network });
        return { ...sandbox.info, reused: true, ...this.limits.take(this.journal) };
      }
      await this.#remember(spec);
      const started = await this.#start(spec);
      if (isRefusal(started)) return started;
      return { ...started.info, reused: false, ...this.limits.take(this.journal) };
    });
  }

  /** For the start after an idle time, which nobody asks for with a spec. */
  async #remember(spec: SandboxSpec): Promise<void> {
    if (JSON.stringify(this.spec) === JSON.stringify(spec)) return;
    this.spec = spec;
    await this.journal.append({ type: 'spec', fence: spec.fence, spec });
  }

  /** The running sandbox; one that was only stopped for idleness is started again. */
  running(): Promise<RunningSandbox | Refusal> {
    if (this.sandbox !== null && !this.sandbox.link.hasEnded) return Promise.resolve(this.sandbox);
    return this.#inTurn(async () => {
      if (this.sandbox !== null && !this.sandbox.link.hasEnded) return this.sandbox;
      if (this.#isGone || this.spec === null)
        return { refused: 'no_sandbox', message: `session ${this.id} has no sandbox; create it first` };
      const started = await this.#start(this.spec);
      const hasTicket = this.spec.network?.kind === 'gateway';
      // A ticket may be worth nothing by now: whoever uses the session has the next one.
      return hasTicket && isRefusal(started) ? { ...started, refused: 'no_sandbox' } : started;
    });
  }

  async #start(spec: SandboxSpec): Promise<RunningSandbox | Refusal> {
    const started = await this.#startSandbox(this, spec);
    if (isRefusal(started)) return started;
    this.sandbox = started;
    this.#isGone = false;
    this.limits.began(started, spec.limits, () => void this.#outlive(started, spec.limits.lifetimeMs ?? 0));
    this.#ending = started.link.ended.then((reason) => this.#ended(started, reason));
    for (const call of this.#calls.values())
      if (call.kind === 'edits' && call.outcome === null) await call.run(started, this.journal, true);
    return started;
  }

  async #ended(sandbox: RunningSandbox, reason: string): Promise<void> {
    if (this.sandbox === sandbox) {
      this.sandbox = null;
      // It ended by itself: whoever uses the session must learn that, so it is not started again unasked.
      this.#isGone = true;
    }
    const why = sandbox.oomKills() > 0 ? `${reason}, after it had run out of memory` : reason;
    for (const call of this.#calls.values()) if (call.kind === 'process') call.lose(why, this.journal);
    this.limits.ends(sandbox, this.journal);
    await sandbox.stop();
  }

  /** Ends the sandbox and everything in it; the disk stays. */
  stop(why: 'idle' | 'destroyed', idleMs = 0): Promise<void> {
    return this.#inTurn(async () => {
      const sandbox = this.sandbox;
      this.sandbox = null;
      this.#isGone = why === 'destroyed';
      if (sandbox === null) return;
      this.limits.ends(sandbox, this.journal);
      // Where it was the host's own time, and nothing ran, nobody has lost anything.
      const isWorthTelling = this.spec?.limits.idleTimeMs !== undefined || sandbox.link.liveCalls > 0;
      if (why === 'idle' && isWorthTelling) this.limits.note('idle_time_ms', idleMs, null, this.journal);
      await sandbox.stop();
    });
  }

  /** It has run for as long as it may: its calls are told why they end, and the next request starts another. */
  #outlive(sandbox: RunningSandbox, lifetimeMs: number): Promise<void> {
    return this.#inTurn(async () => {
      if (this.sandbox !== sandbox) return;
      this.sandbox = null;
      this.limits.ends(sandbox, this.journal);
      this.limits.note('lifetime_ms', lifetimeMs, null, this.journal);
      const calls = [...this.#calls.values()].flatMap((call) =>
        call.kind === 'process' ? call.outlive() : [],
      );
      await Promise.race([Promise.all(calls), delay(OUTLIVE_MS, null, { ref: false })]);
      await sandbox.stop();
    });
  }

  /** Journalled, then known. */
  async record(record: DiskRecord): Promise<void> {
    await this.journal.append(record);
    this.ledger.recall(record);
  }

  /** Edits that were begun on a disk that is another now are not finished on the new one. */
  giveUpEdits(): void {
    for (const call of this.#calls.values()) {
      if (call.kind !== 'edits' || call.outcome !== null) continue;
      call.outcome = { refused: 'changed', message: 'the disk was restored to a checkpoint meanwhile' };
      call.edits = null;
    }
  }

  /** What runs holds still while `act` does, where that can be done. */
  async heldStill<T>(act: () => Promise<T>): Promise<T> {
    const thaw = this.#thaw === null ? await this.sandbox?.freeze?.() : undefined;
    try {
      return await act();
    } finally {
      // A new owner that came meanwhile has its own reason to hold it still.
      if (this.#thaw === null) thaw?.();
    }
  }

  /** Alone with the session's sandbox and disk. */
  takeTurn<T>(act: () => Promise<T>): Promise<T> {
    return this.#inTurn(act);
  }

  /** As `stop`, for whoever has the turn. */
  async endInTurn(): Promise<void> {
    const { sandbox } = this;
    this.sandbox = null;
    this.#isGone = true;
    await sandbox?.stop();
  }

  async close(): Promise<void> {
    await this.#turn;
    // Also where it ended by itself: what is left of it is being removed (S5).
    if (this.sandbox === null) await this.#ending;
    await this.#journal?.close();
  }

  /** Whether its sandbox is being started or ended right now. */
  get isStarting(): boolean {
    return this.#turns > 0;
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    this.#turns++;
    const result = this.#turn.then(act, act).finally(() => {
      this.#turns--;
    });
    this.#turn = result.catch(() => {});
    return result;
  }
}
