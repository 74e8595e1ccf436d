/**
 * What was promised in a commit and is done after it, at least once: the outbox. Today that is one errand, removing the
 * sandbox and the disk of a deleted session (S5); webhooks are to follow.
 */
import type { Executor } from '../sandbox/executor.ts';
import { HostUnreachable, isRefusal } from '../sandbox/executor.ts';
import type { OutboxMessage, Store } from '../store/store.ts';

type Options = { store: Store; executor: Executor; onError(error: unknown): void };

const everyMs = 2_000;
const batch = 100;
/** Above any engine's: nobody works on a session that is deleted. */
const lastFence = Number.MAX_SAFE_INTEGER;

export class Errands {
  readonly #options: Options;
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
      const due = await this.#options.store.pendingOutbox(batch);
      const done: string[] = [];
      for (const message of due) if (await this.#perform(message)) done.push(message.id);
      if (done.length > 0) await this.#options.store.ackOutbox(done);
    } catch (error) {
      // An unreachable host is the engine's to complain of.
      if (!(error instanceof HostUnreachable)) this.#options.onError(error);
    }
  }

  async #perform(message: OutboxMessage): Promise<boolean> {
    if (message.kind !== 'sandbox.remove') return false;
    const session = String(message.body.session);
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
