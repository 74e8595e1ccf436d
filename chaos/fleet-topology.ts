/**
 * A fleet on one Postgres: several servers (api and engine) and a host that has joined them, each a process of its own
 * that is started again when it dies, and a database that is killed too. Between each server and the database is a wire.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hostToken } from '../src/main.ts';
import { openStore } from '../src/store/open.ts';
import type { Store } from '../src/store/store.ts';
import { PostgresServer } from '../test/peers/postgres-server.ts';
import { programFile } from './processes.ts';
import { failpointsIn, Supervised } from './supervised.ts';
import type { DatabaseWires, Death, Role, Topology } from './topology.ts';
import type { Wire } from './wire.ts';
import { startWire } from './wire.ts';

export type FleetOptions = {
  folder: string;
  servers: number;
  bind: string;
  env: Record<string, string>;
  /** Where the host asks whom to join. */
  joinUrl: string;
  nextLife(role: 'server' | 'host'): string;
  restartMs(): number;
};

const database = 'scriptorium';

export class FleetTopology implements Topology {
  readonly deaths: Death[] = [];
  readonly databaseWires: DatabaseWires;
  readonly #options: FleetOptions;
  readonly #postgres: PostgresServer;
  readonly #wires: Wire[];
  readonly #servers: Supervised[];
  readonly #host: Supervised;
  #rebooting: Promise<void> | null = null;
  #hasQuit = false;
  #turn = 0;

  static async make(options: FleetOptions): Promise<FleetTopology> {
    mkdirSync(options.folder, { recursive: true });
    const secret = path.join(options.folder, 'cluster.secret');
    writeFileSync(path.join(options.folder, 'master.key'), randomBytes(32), { mode: 0o600 });
    writeFileSync(secret, randomBytes(32).toString('hex'), { mode: 0o600 });
    writeFileSync(path.join(options.folder, 'host.token'), hostToken(secret, 'chaos'), { mode: 0o600 });
    const postgres = await PostgresServer.start();
    await postgres.query('postgres', `CREATE DATABASE ${database}`);
    const wires: Wire[] = [];
    for (let left = options.servers; left > 0; left--) {
      const wire = await startWire();
      wire.target = { host: '127.0.0.1', port: postgres.port };
      wires.push(wire);
    }
    return new FleetTopology(options, postgres, wires);
  }

  private constructor(options: FleetOptions, postgres: PostgresServer, wires: Wire[]) {
    this.#options = options;
    this.#postgres = postgres;
    this.#wires = wires;
    const program = programFile('chaos/fleet-node');
    const { folder, env, restartMs, joinUrl, bind } = options;
    const supervised = (role: 'server' | 'host', args: string[]): Supervised =>
      new Supervised({
        ...{ role, env, restartMs, mayRefuseToStart: true },
        args: [program, role, folder, ...args],
        nextLife: () => options.nextLife(role),
        onDeath: (death) => this.deaths.push(death),
      });
    this.#servers = wires.map(({ port }) =>
      supervised('server', [postgres.url(database, { host: '127.0.0.1', port })]),
    );
    this.#host = supervised('host', [joinUrl, bind]);
    const wire = (choice: number): Wire => wires[choice % wires.length] as Wire;
    this.databaseWires = {
      cutOne: (choice) => wire(choice).cutOne(choice),
      cut: (choice) => wire(choice).cut(),
      partition: (choice, ms) => wire(choice).freeze(ms),
    };
  }

  async open(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.open()));
    await this.#host.open();
  }

  /** Each time another one: clients have no favourite. */
  address(): { host: string; port: number } | null {
    const urls = this.#servers.flatMap(({ url }) => url ?? []);
    const url = urls[this.#turn++ % Math.max(1, urls.length)];
    return url ? { host: url.hostname, port: Number(url.port) } : null;
  }

  pidOf(role: Role, choice: number): number | null {
    if (role === 'database') return null;
    return this.#one(role, choice).pid;
  }

  kill(role: Role, choice: number): boolean {
    if (role !== 'database') return this.#one(role, choice).kill();
    if (this.#rebooting !== null) return false;
    this.deaths.push({ role, cause: 'kill', atMs: Date.now(), monotonicMs: performance.now() });
    this.#rebooting = this.#reboot().finally(() => {
      this.#rebooting = null;
    });
    return true;
  }

  async calm(): Promise<void> {
    await this.#rebooting;
    await Promise.all([...this.#servers, this.#host].map((one) => one.calm()));
  }

  fired(): string[] {
    const words = [...this.#servers, this.#host].map((one) => one.words).join('\n');
    return failpointsIn(words).map(({ name, action }) => `${name}=${action}`);
  }

  starts(): number {
    return this.#servers.reduce((sum, server) => sum + server.starts, this.#host.starts);
  }

  openStore(): Promise<Store> {
    return openStore({
      databaseUrl: this.#postgres.url(database),
      masterKeyFile: path.join(this.#options.folder, 'master.key'),
      summarizeModule: new URL(`file://${programFile('src/session/summary')}`),
    });
  }

  async quit(): Promise<void> {
    if (this.#hasQuit) return;
    this.#hasQuit = true;
    await this.#rebooting;
    await Promise.all(this.#servers.map((server) => server.close()));
    await this.#host.close();
  }

  async close(): Promise<void> {
    await this.quit();
    await Promise.all(this.#wires.map((wire) => wire.close()));
    await this.#postgres.stop();
  }

  /** Everything that anyone wrote, for whoever has to find out why. */
  get words(): string {
    return [...this.#servers, this.#host].map((one) => one.words).join('\n----\n');
  }

  #one(role: Exclude<Role, 'database'>, choice: number): Supervised {
    return role === 'host' ? this.#host : (this.#servers[choice % this.#servers.length] as Supervised);
  }

  async #reboot(): Promise<void> {
    await this.#postgres.kill();
    await this.#postgres.boot();
  }
}
