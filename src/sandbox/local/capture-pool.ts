/**
 * Capture namespaces made ahead, so that a sandbox need not wait for one. They belong to nobody until they are taken.
 *
 * Promises: S5, `close` ends what was not taken; a namespace that ended while it waited is never handed out.
 */
import type { Programs } from '../backend.ts';
import { CaptureNamespace, type CaptureProblem } from './capture-namespace.ts';

/** A burst of two finds both ready; a third waits as long as without a pool. */
const SPARE = 2;

export class CapturePool {
  readonly #programs: Programs;
  readonly #folder: string;
  readonly #spare: Promise<CaptureNamespace | CaptureProblem>[] = [];
  #isClosed = false;
  #filling: NodeJS.Timeout | null = null;

  /** `folder` is the gateway's; it need not be there yet. */
  constructor(programs: Programs, folder: string) {
    this.#programs = programs;
    this.#folder = folder;
  }

  async take(): Promise<CaptureNamespace | CaptureProblem> {
    if (this.#isClosed) return { problem: 'the host is ending' };
    for (let next = this.#spare.shift(); next !== undefined; next = this.#spare.shift()) {
      const made = await next;
      if ('problem' in made || made.hasEnded) continue;
      this.fill();
      return made;
    }
    const made = await CaptureNamespace.start(this.#programs, this.#folder);
    if (!('problem' in made)) this.fill();
    return made;
  }

  /** Soon, and after what is being started now: the spare ones must not slow it down. */
  fill(): void {
    if (this.#filling !== null || this.#isClosed) return;
    this.#filling = setTimeout(() => {
      this.#filling = null;
      if (this.#isClosed || this.#spare.length >= SPARE) return;
      const made = CaptureNamespace.start(this.#programs, this.#folder);
      this.#spare.push(made);
      void made.then((result) => {
        if (!('problem' in result)) this.fill();
      });
    }, 50).unref();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#filling !== null) clearTimeout(this.#filling);
    const spare = await Promise.all(this.#spare.splice(0));
    await Promise.all(spare.map((made) => ('problem' in made ? null : made.stop())));
  }
}
