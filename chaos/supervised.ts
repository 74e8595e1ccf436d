/**
 * One process under attack, started again whenever it dies, each life armed with the plan's next failpoints. It tells
 * the deaths that the plan wanted from those that nobody wanted.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { signal } from './process-table.ts';
import { end, hasEnded, start } from './processes.ts';
import type { Death, Role } from './topology.ts';

export type SupervisedOptions = {
  role: Role;
  args: string[];
  env: Record<string, string>;
  /** SCRIPTORIUM_FAILPOINTS of the next life. */
  nextLife(): string;
  restartMs(): number;
  /** Where what it needs is under attack too: one that cannot start says so, ends, and is started again. */
  mayRefuseToStart?: boolean;
  onDeath(death: Death): void;
};

/** What cannot start is tried again after this. */
const retryMs = 250;
const failpointLine = /^failpoint ([\w.-]+) (\w+) at hit \d+$/gm;

/** Name and action of each failpoint that fired. */
export function failpointsIn(words: string): { name: string; action: string }[] {
  return [...words.matchAll(failpointLine)].map(([, name = '', action = '']) => ({ name, action }));
}

export class Supervised {
  starts = 0;
  /** From each start to the word that it serves. */
  readonly readyMs: number[] = [];
  /** All it ever wrote on stderr. */
  words = '';
  url: URL | null = null;
  /** What it said of itself when it was ready; of its latest life. */
  line: Record<string, unknown> = {};
  readonly #options: SupervisedOptions;
  #child: ChildProcess | null = null;
  #isCalm = false;
  #isClosing = false;
  #wasKilled = false;
  #hasStarted = false;
  #living: Promise<void> = Promise.resolve();
  #ready = Promise.withResolvers<void>();

  constructor(options: SupervisedOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    this.#living = this.#live();
    await this.#ready.promise;
  }

  get pid(): number | null {
    return this.#child && !hasEnded(this.#child) ? (this.#child.pid ?? null) : null;
  }

  kill(): boolean {
    const { pid } = this;
    if (pid === null) return false;
    this.#wasKilled = true;
    return signal(pid, 'SIGKILL');
  }

  /** Another life, unarmed. */
  async calm(): Promise<void> {
    this.#isCalm = true;
    this.#ready = Promise.withResolvers();
    this.kill();
    await this.#ready.promise;
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#child) await end(this.#child, 10_000);
    await this.#living;
  }

  async #live(): Promise<void> {
    while (!this.#isClosing) {
      await this.#life().catch(async (error: Error) => {
        this.words += `${error.message}\n`;
        await sleep(retryMs);
      });
      if (!this.#isClosing) await sleep(this.#isCalm ? 0 : this.#options.restartMs());
    }
  }

  /** From one start to the death that follows. */
  async #life(): Promise<void> {
    const { args, env, nextLife } = this.#options;
    const isCalm = this.#isCalm;
    const armed = isCalm ? '' : nextLife();
    const gone = Promise.withResolvers<void>();
    this.#wasKilled = false;
    this.#hasStarted = false;
    this.starts++;
    const startedMs = performance.now();
    let said = '';
    const onSpawn = (child: ChildProcess): void => {
      this.#child = child;
      child.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString('utf8');
      });
      child.once('close', () => {
        this.url = null;
        this.words += said;
        this.#died(child, said);
        gone.resolve();
      });
    };
    try {
      const arms: Record<string, string> = armed === '' ? {} : { SCRIPTORIUM_FAILPOINTS: armed };
      const { line } = await start(args, { ...env, ...arms }, onSpawn);
      this.#hasStarted = true;
      this.line = line;
      this.readyMs.push(performance.now() - startedMs);
      this.url = typeof line.url === 'string' ? new URL(line.url) : null;
      // One that was armed and came up while calm was asked for is about to be killed.
      if (isCalm === this.#isCalm) this.#ready.resolve();
      else this.kill();
    } finally {
      await gone.promise;
    }
  }

  #died(child: ChildProcess, said: string): void {
    const isRefusal = this.#options.mayRefuseToStart === true && child.exitCode !== null && !this.#hasStarted;
    if (this.#isClosing || isRefusal) return;
    const last = failpointsIn(said).findLast(({ action }) => action === 'kill');
    const cause = this.#wasKilled
      ? 'kill'
      : last && child.signalCode === 'SIGKILL'
        ? `failpoint:${last.name}`
        : `exit ${child.exitCode ?? child.signalCode}: ${said.trim().slice(-500)}`;
    const { host_id: host } = this.line;
    this.#options.onDeath({
      role: this.#options.role,
      cause,
      ...(typeof host === 'string' ? { host } : {}),
      atMs: Date.now(),
      monotonicMs: performance.now(),
    });
  }
}
