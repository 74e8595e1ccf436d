/**
 * A fleet on one Postgres: several servers (api and engine) and hosts that have joined them, each a process of its own
 * (`scriptorium serve`, `scriptorium host`) that is started again when it dies, and a database that is killed too.
 * Between each server and the database is a wire, and one between each engine and whoever dials it.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { hostToken } from '../src/main.ts';
import { openStore } from '../src/store/open.ts';
import type { Store } from '../src/store/store.ts';
import { PostgresServer } from '../test/peers/postgres-server.ts';
import { freePort, programFile } from './processes.ts';
import { failpointsIn, Supervised } from './supervised.ts';
import type { Death, Role, Topology, Wires } from './topology.ts';
import type { Wire } from './wire.ts';
import { startWire } from './wire.ts';

export type FleetOptions = {
  folder: string;
  servers: number;
  /** Of each host, below `folder`. */
  hosts: readonly string[];
  bind: string;
  env: Record<string, string>;
  /** Where hosts ask whom to join. */
  joinUrl: string;
  nextLife(role: 'server' | 'host'): string;
  restartMs(): number;
};

const database = 'scriptorium';

/** Where a server stands: the wires it is reached by and reaches its database by. */
type Place = { database: Wire; engine: Wire; internalPort: number };

function serveArgs(folder: string, { engine, internalPort }: Place, databaseUrl: string): string[] {
  const files = ['--master-key-file', masterKeyIn(folder), '--cluster-secret-file', clusterSecretIn(folder)];
  const addresses = [
    ...['--listen', '127.0.0.1:0', '--internal-listen', `127.0.0.1:${internalPort}`],
    ...['--internal-address', `127.0.0.1:${engine.port}`],
  ];
  const times = ['--host-lost-after', '60', '--drain', '2'];
  const place = ['--database-url', databaseUrl, '--data-dir', path.join(folder, 'data')];
  return ['serve', '--role', 'api,engine', '--json', ...place, ...files, ...addresses, ...times];
}

function hostArgs({ folder, joinUrl, bind }: FleetOptions, host: string): string[] {
  const place = ['--state-dir', path.join(folder, host), '--token-file', path.join(folder, 'host.token')];
  return ['host', '--json', '--join', joinUrl, ...place, '--bind', bind];
}

function masterKeyIn(folder: string): string {
  return path.join(folder, 'master.key');
}

function clusterSecretIn(folder: string): string {
  return path.join(folder, 'cluster.secret');
}

function wiresOf(wires: readonly Wire[]): Wires {
  const wire = (choice: number): Wire => wires[choice % wires.length] as Wire;
  return {
    cutOne: (choice) => wire(choice).cutOne(choice),
    cut: (choice) => wire(choice).cut(),
    partition: (choice, ms) => wire(choice).freeze(ms),
    lose: (choice, ms, what) =>
      what === 'requests' ? wire(choice).loseRequests(ms) : wire(choice).loseReplies(ms),
    delay: (choice, ms, byMs) => wire(choice).delay(ms, byMs),
  };
}

export class FleetTopology implements Topology {
  readonly deaths: Death[] = [];
  readonly databaseWires: Wires;
  readonly engineWires: Wires;
  readonly #options: FleetOptions;
  readonly #postgres: PostgresServer;
  readonly #wires: Wire[];
  readonly #servers: Supervised[];
  readonly #hosts: Supervised[];
  #rebooting: Promise<void> | null = null;
  #hasQuit = false;
  #turn = 0;

  static async make(options: FleetOptions): Promise<FleetTopology> {
    mkdirSync(options.folder, { recursive: true });
    const secret = clusterSecretIn(options.folder);
    writeFileSync(masterKeyIn(options.folder), randomBytes(32), { mode: 0o600 });
    writeFileSync(secret, randomBytes(32).toString('hex'), { mode: 0o600 });
    writeFileSync(path.join(options.folder, 'host.token'), hostToken(secret, 'chaos'), { mode: 0o600 });
    const postgres = await PostgresServer.start();
    await postgres.query('postgres', `CREATE DATABASE ${database}`);
    const places: Place[] = [];
    for (let left = options.servers; left > 0; left--) {
      const [database, engine] = [await startWire(), await startWire()];
      const internalPort = await freePort();
      database.target = { host: '127.0.0.1', port: postgres.port };
      engine.target = { host: '127.0.0.1', port: internalPort };
      places.push({ database, engine, internalPort });
    }
    return new FleetTopology(options, postgres, places);
  }

  private constructor(options: FleetOptions, postgres: PostgresServer, places: readonly Place[]) {
    this.#options = options;
    this.#postgres = postgres;
    this.#wires = places.flatMap(({ database, engine }) => [database, engine]);
    const { env, restartMs, folder } = options;
    const supervised = (role: 'server' | 'host', args: string[]): Supervised =>
      new Supervised({
        ...{ role, env, restartMs, mayRefuseToStart: true },
        args: [programFile('src/cli/main'), ...args],
        nextLife: () => options.nextLife(role),
        onDeath: (death) => this.deaths.push(death),
      });
    this.#servers = places.map((place) => {
      const through = { host: '127.0.0.1', port: place.database.port };
      return supervised('server', serveArgs(folder, place, postgres.url(database, through)));
    });
    this.#hosts = options.hosts.map((host) => supervised('host', hostArgs(options, host)));
    this.databaseWires = wiresOf(places.map((place) => place.database));
    this.engineWires = wiresOf(places.map((place) => place.engine));
  }

  async open(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.open()));
    await Promise.all(this.#hosts.map((host) => host.open()));
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
    await Promise.all(this.#all.map((one) => one.calm()));
  }

  fired(): string[] {
    const words = this.#all.map((one) => one.words).join('\n');
    return failpointsIn(words).map(({ name, action }) => `${name}=${action}`);
  }

  starts(): number {
    return this.#all.reduce((sum, one) => sum + one.starts, 0);
  }

  readyMs(): number[] {
    return this.#all.flatMap((one) => one.readyMs);
  }

  openStore(): Promise<Store> {
    return openStore({
      databaseUrl: this.#postgres.url(database),
      masterKeyFile: masterKeyIn(this.#options.folder),
      summarizeModule: new URL(`file://${programFile('src/session/summary')}`),
    });
  }

  async quit(): Promise<void> {
    if (this.#hasQuit) return;
    this.#hasQuit = true;
    await this.#rebooting;
    await Promise.all(this.#servers.map((server) => server.close()));
    await Promise.all(this.#hosts.map((host) => host.close()));
  }

  async close(): Promise<void> {
    await this.quit();
    await Promise.all(this.#wires.map((wire) => wire.close()));
    await this.#postgres.stop();
  }

  /** Everything that anyone wrote, for whoever has to find out why. */
  get words(): string {
    return this.#all.map((one) => one.words).join('\n----\n');
  }

  get #all(): Supervised[] {
    return [...this.#servers, ...this.#hosts];
  }

  #one(role: Exclude<Role, 'database'>, choice: number): Supervised {
    const ones = role === 'host' ? this.#hosts : this.#servers;
    return ones[choice % ones.length] as Supervised;
  }

  async #reboot(): Promise<void> {
    await this.#postgres.kill();
    await this.#postgres.boot();
  }
}
