/**
 * Capture namespaces made ahead, so that a sandbox need not wait for one. They belong to nobody until they are taken.
 *
 * Promises: S5, `close` ends what was not taken; a namespace that ended while it waited is never handed out.
 */
import type { Programs } from '../backend.ts';
import { CaptureNamespace, type CaptureProblem } from './capture-namespace.ts';

/** A burst of two finds both ready; a third waits as long as without a pool. */
const SPARE = 2;
const FILL_MS = 50;

export class CapturePool {
  readonly #programs: Programs;
  readonly #folder: string;
  readonly #spare: CaptureNamespace[] = [];
  #making: Promise<void> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  /** `folder` is the gateway's; it need not be there yet. */
  constructor(programs: Programs, folder: string) {
    this.#programs = programs;
    this.#folder = folder;
  }

  /** Processes that hold what was not taken yet. */
  get waiting(): number[] {
    return this.#spare.flatMap(({ pid }) => pid ?? []);
  }

  async take(): Promise<CaptureNamespace | CaptureProblem> {
    let made = this.#spare.shift();
    while (made?.hasEnded === true) made = this.#spare.shift();
    const taken = made ?? (await CaptureNamespace.start(this.#programs, this.#folder));
    if ('problem' in taken) return taken;
    if (this.#isClosed) {
      await taken.stop();
      return { problem: 'the host is ending' };
    }
    this.fill();
    return taken;
  }

  /** Soon, and after what is being started now: the spare ones must not slow it down. */
  fill(): void {
    if (this.#timer !== null || this.#making !== null || this.#isClosed) return;
    if (this.#spare.length >= SPARE) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#making = this.#makeOne();
    }, FILL_MS).unref();
  }

  async #makeOne(): Promise<void> {
    const made = await CaptureNamespace.start(this.#programs, this.#folder);
    this.#making = null;
    // Why it cannot be made is for those who need one to hear.
    if ('problem' in made) return;
    this.#spare.push(made);
    this.fill();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#making;
    await Promise.all(this.#spare.splice(0).map((made) => made.stop()));
  }
}
