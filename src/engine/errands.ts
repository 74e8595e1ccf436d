/**
 * What was promised in a commit and is done after it, at least once: the outbox. Removing the sandbox and the
 * disk of a deleted session, and a deleted checkpoint (S5); webhooks are to follow.
 *
 * An errand that names a host is done when that host has done it, however long it is away; where it is given up, there
 * is no disk any more. What waits keeps nothing else waiting.
 */
import type { Executor } from '../sandbox/executor.ts';
import { HostAway, HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { OutboxMessage, Store } from '../store/store.ts';
import type { HostLosses } from './host-losses.ts';

type Options = {
  store: Store;
  executor: Executor;
  /** Absent where there is one host only, which is never given up. */
  losses?: Pick<HostLosses, 'isLost'>;
  onError(error: unknown): void;
};

const everyMs = 2_000;
const batch = 100;
/** Where all that is looked at waits for a host, more is looked at. */
const maxBatch = 10_000;
/** Above any engine's: nobody works on a session that is deleted. */
const lastFence = Number.MAX_SAFE_INTEGER;

export class Errands {
  readonly #options: Options;
  #batch = batch;
  #timer: NodeJS.Timeout | null = null;
  #running: Promise<void> | null = null;

  constructor(options: Options) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#running ??= this.runOnce().finally(() => {
        this.#running = null;
      });
    }, everyMs);
    this.#timer.unref();
  }

  async stop(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#running;
  }

  /** Does what is due; what fails is found again the next time. Never rejects. */
  async runOnce(): Promise<void> {
    try {
      const due = await this.#options.store.pendingOutbox(this.#batch);
      const done: string[] = [];
      for (const message of due) if (await this.#perform(message)) done.push(message.id);
      const isStuck = done.length === 0 && due.length === this.#batch;
      this.#batch = isStuck ? Math.min(maxBatch, this.#batch * 2) : batch;
      if (done.length > 0) await this.#options.store.ackOutbox(done);
    } catch (error) {
      this.#options.onError(error);
    }
  }

  async #perform(message: OutboxMessage): Promise<boolean> {
    const { executor } = this.#options;
    const { session, host } = message.body;
    if (message.kind !== 'sandbox.remove' && message.kind !== 'checkpoint.remove') return false;
    if (typeof host === 'string') executor.locate?.(String(session), host);
    try {
      if (message.kind === 'checkpoint.remove') return await this.#removeCheckpoint(message);
      return await this.#remove(String(session));
    } catch (error) {
      // An unreachable host is the engine's to complain of.
      if (!(error instanceof HostUnreachable)) throw error;
      if (!(error instanceof HostAway) || error.host === null) return false;
      if (!(await this.#options.losses?.isLost(error.host))) return false;
      if (message.kind === 'checkpoint.remove') return true;
      // Gone with its machine; what may have been begun elsewhere is still to go.
      executor.locate?.(String(session), null);
      return this.#remove(String(session)).catch((again: unknown) => {
        if (again instanceof HostUnreachable) return false;
        throw again;
      });
    }
  }

  /** Under the present owner's fence, so that a turn under way is not disturbed. */
  async #removeCheckpoint({ body, stream, ...tenant }: OutboxMessage): Promise<boolean> {
    const row = await this.#options.store.stream(tenant, stream);
    // With its session its disk goes, and with that all of its checkpoints.
    if (!row || row.erased) return true;
    const checkpoint = String(body.checkpoint);
    const removed = await this.#options.executor.removeCheckpoint({
      session: stream,
      fence: row.fence,
      checkpoint,
    });
    // Fenced: claimed anew in between; the next round has the newer fence.
    if (!isRefusal(removed) || removed.refused === 'no_sandbox') return true;
    if (removed.refused !== 'fenced')
      this.#options.onError(new Error(`${checkpoint} could not be removed: ${removed.message}`));
    return false;
  }

  async #remove(session: string): Promise<boolean> {
    const removed = await this.#options.executor.destroySandbox({
      session,
      fence: lastFence,
      removeDisk: true,
    });
    if (!isRefusal(removed)) return true;
    // Its disk is still there: said aloud, and tried again, for this is all that will ever remove it (S5).
    this.#options.onError(new Error(`the disk of ${session} could not be removed: ${removed.message}`));
    return false;
  }
}
