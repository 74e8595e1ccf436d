/**
 * One `scriptorium up` and the host it starts. The server is started again whenever it dies, each life armed with the
 * plan's next failpoints; the host is the server's to start again, and is only watched.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { end, hasEnded, processesNaming, programFile, signal, start } from './processes.ts';
import type { Death, Role, Topology } from './topology.ts';

export type UpOptions = {
  dataDir: string;
  /** FROM:TO, bound into every sandbox. */
  binds: string[];
  env: Record<string, string>;
  arguments: string[];
  /** SCRIPTORIUM_FAILPOINTS of the next server. */
  nextLife(): string;
  restartMs(): number;
};

/** How often the host is looked at: a death of it is known that late. */
const watchMs = 50;
/** A server that cannot start is tried again after this. */
const retryMs = 250;
const failpointLine = /^failpoint ([\w.-]+) (\w+) at hit \d+$/gm;

export class UpTopology implements Topology {
  readonly deaths: Death[] = [];
  starts = 0;
  readonly #options: UpOptions;
  #child: ChildProcess | null = null;
  #url: URL | null = null;
  #stderr = '';
  #isCalm = false;
  #isClosing = false;
  #wasKilled = false;
  readonly #killedHosts = new Set<number>();
  #host: number | null = null;
  #watch: NodeJS.Timeout | null = null;
  #supervising: Promise<void> = Promise.resolve();
  #firstReady = Promise.withResolvers<void>();

  constructor(options: UpOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    this.#watch = setInterval(() => this.#lookAtHost(), watchMs);
    this.#supervising = this.#supervise();
    await this.#firstReady.promise;
  }

  address(): { host: string; port: number } | null {
    return this.#url && { host: this.#url.hostname, port: Number(this.#url.port) };
  }

  pidOf(role: Role): number | null {
    if (role === 'host') return this.#host;
    return this.#child && !hasEnded(this.#child) ? (this.#child.pid ?? null) : null;
  }

  kill(role: Role): boolean {
    const pid = this.pidOf(role);
    if (pid === null) return false;
    if (role === 'host') this.#killedHosts.add(pid);
    else this.#wasKilled = true;
    return signal(pid, 'SIGKILL');
  }

  async calm(): Promise<void> {
    this.#isCalm = true;
    this.kill('host');
    this.kill('server');
    this.#firstReady = Promise.withResolvers();
    await this.#firstReady.promise;
  }

  fired(): string[] {
    return [...this.#allStderr().matchAll(failpointLine)].map(([, name, action]) => `${name}=${action}`);
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#child) await end(this.#child, 10_000);
    await this.#supervising;
    if (this.#watch) clearInterval(this.#watch);
    const hosts = (): number[] => processesNaming(this.#stateDir);
    for (const pid of hosts()) signal(pid, 'SIGCONT');
    for (const pid of hosts()) signal(pid, 'SIGTERM');
    for (let left = 100; left > 0 && hosts().length > 0; left--) await sleep(50);
    for (const pid of hosts()) signal(pid, 'SIGKILL');
  }

  get #stateDir(): string {
    return path.join(this.#options.dataDir, 'host');
  }

  async #supervise(): Promise<void> {
    while (!this.#isClosing) {
      await this.#life().catch(async (error: Error) => {
        this.#stderr += `${error.message}\n`;
        await sleep(retryMs);
      });
      if (!this.#isClosing) await sleep(this.#isCalm ? 0 : this.#options.restartMs());
    }
  }

  /** From one start to the death that follows. */
  async #life(): Promise<void> {
    const { dataDir, binds, env, nextLife } = this.#options;
    const armed = this.#isCalm ? '' : nextLife();
    this.#wasKilled = false;
    this.starts++;
    const gone = Promise.withResolvers<void>();
    const args = [programFile('src/cli/main'), 'up', '--data-dir', dataDir, '--port', '0', '--json'];
    for (const bind of binds) args.push('--bind', bind);
    let said = '';
    const starting = start(
      [...args, ...this.#options.arguments],
      { ...env, ...(armed === '' ? {} : { SCRIPTORIUM_FAILPOINTS: armed }) },
      (child) => {
        this.#child = child;
        child.stderr?.on('data', (chunk: Buffer) => {
          said += chunk.toString('utf8');
        });
        child.once('close', () => {
          this.#url = null;
          this.#stderr += said;
          this.#died(child, said);
          gone.resolve();
        });
      },
    );
    const server = await starting.catch(async (error: Error) => {
      await gone.promise;
      throw error;
    });
    this.#url = new URL(String(server.line.url));
    this.#firstReady.resolve();
    await gone.promise;
  }

  #died(child: ChildProcess, said: string): void {
    if (this.#isClosing) return;
    const kill = [...said.matchAll(failpointLine)].findLast(([, , action]) => action === 'kill');
    const cause = this.#wasKilled
      ? 'kill'
      : kill && child.signalCode === 'SIGKILL'
        ? `failpoint:${kill[1]}`
        : `exit ${child.exitCode ?? child.signalCode}: ${said.trim().slice(-500)}`;
    this.#record('server', cause);
  }

  #record(role: Role, cause: string): void {
    this.deaths.push({ role, cause, atMs: Date.now(), monotonicMs: performance.now() });
  }

  #lookAtHost(): void {
    const now = processesNaming(this.#stateDir)[0] ?? null;
    if (now === this.#host) return;
    if (this.#host !== null && !this.#isClosing)
      this.#record('host', this.#killedHosts.has(this.#host) ? 'kill' : this.#lastWordsOfHost());
    this.#host = now;
  }

  #lastWordsOfHost(): string {
    const last = this.#hostLog().trim().split('\n').at(-1) ?? '';
    const name = /^failpoint ([\w.-]+) kill/.exec(last)?.[1];
    return name ? `failpoint:${name}` : `the host ended: ${last.slice(-300)}`;
  }

  #hostLog(): string {
    try {
      return readFileSync(path.join(this.#stateDir, 'host.log'), 'utf8');
    } catch {
      return '';
    }
  }

  #allStderr(): string {
    return `${this.#stderr}\n${this.#hostLog()}`;
  }

  /** For whoever has to find out why. */
  get words(): string {
    return this.#allStderr();
  }
}
