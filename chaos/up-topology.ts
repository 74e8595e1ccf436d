/**
 * One `scriptorium up` and the host it starts. The server is started again whenever it dies; the host is the server's to
 * start again, and is only watched.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openStore } from '../src/store/open.ts';
import type { Store } from '../src/store/store.ts';
import { processesNaming, signal } from './process-table.ts';
import { programFile } from './processes.ts';
import { failpointsIn, Supervised } from './supervised.ts';
import type { Death, Role, Topology } from './topology.ts';

export type UpOptions = {
  dataDir: string;
  /** FROM:TO, bound into every sandbox. */
  bind: string;
  env: Record<string, string>;
  nextLife(): string;
  restartMs(): number;
};

/** How often the host is looked at: a death of it is known that late. */
const watchMs = 50;

export class UpTopology implements Topology {
  readonly deaths: Death[] = [];
  readonly databaseWires = null;
  readonly engineWires = null;
  readonly #dataDir: string;
  readonly #server: Supervised;
  readonly #killedHosts = new Set<number>();
  #host: number | null = null;
  #watch: NodeJS.Timeout | null = null;
  #isQuitting = false;

  constructor(options: UpOptions) {
    const { dataDir, bind, env, nextLife, restartMs } = options;
    this.#dataDir = dataDir;
    const place = ['--data-dir', dataDir, '--port', '0', '--bind', bind];
    this.#server = new Supervised({
      role: 'server',
      args: [programFile('src/cli/main'), 'up', '--json', ...place],
      env,
      nextLife,
      restartMs,
      onDeath: (death) => this.deaths.push(death),
    });
  }

  async open(): Promise<void> {
    this.#watch = setInterval(() => this.#lookAtHost(), watchMs);
    await this.#server.open();
  }

  address(): { host: string; port: number } | null {
    const { url } = this.#server;
    return url && { host: url.hostname, port: Number(url.port) };
  }

  pidOf(role: Role): number | null {
    if (role === 'database') return null;
    return role === 'host' ? this.#host : this.#server.pid;
  }

  kill(role: Role): boolean {
    if (role === 'server') return this.#server.kill();
    const pid = this.pidOf(role);
    if (pid === null) return false;
    this.#killedHosts.add(pid);
    return signal(pid, 'SIGKILL');
  }

  async calm(): Promise<void> {
    // The host was started by an armed server, and is armed with it.
    this.kill('host');
    await this.#server.calm();
  }

  fired(): string[] {
    const all = failpointsIn(`${this.#server.words}\n${this.#hostLog()}`);
    return all.map(({ name, action }) => `${name}=${action}`);
  }

  starts(): number {
    return this.#server.starts;
  }

  readyMs(): number[] {
    return this.#server.readyMs;
  }

  openStore(): Promise<Store> {
    const summarizeModule = new URL(`file://${programFile('src/session/summary')}`);
    return openStore({ directory: path.join(this.#dataDir, 'store'), summarizeModule });
  }

  async quit(): Promise<void> {
    this.#isQuitting = true;
    await this.#server.close();
    if (this.#watch) clearInterval(this.#watch);
    await endHosts(this.#stateDir);
  }

  async close(): Promise<void> {
    await this.quit();
  }

  get #stateDir(): string {
    return path.join(this.#dataDir, 'host');
  }

  #lookAtHost(): void {
    const now = processesNaming(this.#stateDir, path.join('sandbox', 'host', 'main'))[0] ?? null;
    if (now === this.#host) return;
    if (this.#host !== null && !this.#isQuitting) {
      const cause = this.#killedHosts.has(this.#host) ? 'kill' : this.#lastWordsOfHost();
      this.deaths.push({ role: 'host', cause, atMs: Date.now(), monotonicMs: performance.now() });
    }
    this.#host = now;
  }

  #lastWordsOfHost(): string {
    const last = this.#hostLog().trim().split('\n').at(-1) ?? '';
    const killer = failpointsIn(last).find(({ action }) => action === 'kill');
    return killer ? `failpoint:${killer.name}` : `the host ended: ${last.slice(-300)}`;
  }

  #hostLog(): string {
    try {
      return readFileSync(path.join(this.#stateDir, 'host.log'), 'utf8');
    } catch {
      return '';
    }
  }
}

/** In order, where they are awake; by force after five seconds. */
export async function endHosts(stateDir: string): Promise<void> {
  const hosts = (): number[] => processesNaming(stateDir);
  for (const pid of hosts()) signal(pid, 'SIGCONT');
  for (const pid of hosts()) signal(pid, 'SIGTERM');
  for (let left = 100; left > 0 && hosts().length > 0; left--) await sleep(50);
  for (const pid of hosts()) signal(pid, 'SIGKILL');
}
