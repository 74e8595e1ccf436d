/**
 * A fleet of ours on one real Postgres: `scriptorium serve` and `scriptorium host` as a user starts them, each a process
 * of its own. Ended in order, hosts last of ours, the database last of all.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { nowMs, until } from './clock.ts';
import { commandFile, load } from './code-under-test.ts';
import type { Database } from './database.ts';
import { freshDatabase } from './database.ts';
import type { Peer } from './peer-process.ts';
import { atEnd, hasEnded, kill, start, temporaryFolder } from './processes.ts';
import { apiKey, firstLine, Server } from './server-process.ts';

export type FleetSettings = { peer: Peer; isIsolated: boolean; binds?: string[]; node?: string };

const endMs = 8_000;

export class Fleet {
  readonly database: Database;
  readonly #settings: FleetSettings;
  readonly #folder: string;
  readonly #client: pg.Client;
  readonly #servers: Server[] = [];
  readonly #hosts: ChildProcess[] = [];

  private constructor(settings: FleetSettings, database: Database, folder: string, client: pg.Client) {
    this.#settings = settings;
    this.database = database;
    this.#folder = folder;
    this.#client = client;
  }

  static async open(settings: FleetSettings): Promise<Fleet> {
    const database = await freshDatabase();
    const folder = await temporaryFolder('fleet');
    await writeFile(join(folder, 'cluster.secret'), randomBytes(32).toString('hex'), { mode: 0o600 });
    const client = new pg.Client({ connectionString: database.url });
    client.on('error', () => {});
    await client.connect();
    const fleet = new Fleet(settings, database, folder, client);
    atEnd(() => fleet.close());
    return fleet;
  }

  get servers(): readonly Server[] {
    return this.#servers.filter(({ child }) => !hasEnded(child));
  }

  get pids(): number[] {
    return [...this.servers.map(({ pid }) => pid), ...this.#hosts.map(({ pid }) => pid as number)];
  }

  async query<R extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<R[]> {
    return (await this.#client.query<R>(text, values)).rows;
  }

  async serve(role: 'api' | 'engine' | 'api,engine', flags: string[] = []): Promise<Server> {
    const { masterKeyFile, url } = this.database;
    const files = ['--master-key-file', masterKeyFile, '--cluster-secret-file', this.#secret];
    const places = ['--listen', '127.0.0.1:0', '--internal-listen', '127.0.0.1:0'];
    const data = ['--data-dir', join(this.#folder, 'data')];
    const args = ['serve', '--json', '--role', role, '--database-url', url, ...files, ...places, ...data];
    const { peer } = this.#settings;
    const keys = {
      OPENAI_API_KEY: peer.apiKey,
      OPENAI_BASE_URL: peer.url,
      SCRIPTORIUM_API_KEY: apiKey,
    };
    const spawnedMs = nowMs();
    const child = this.#start(args, keys, flags);
    const server = (await Server.attach(child, this.#folder, spawnedMs)).watch(peer);
    this.#servers.push(server);
    return server;
  }

  async host(name: string): Promise<void> {
    const { hostToken } = await load<typeof import('../../src/main.ts')>('src/main');
    const tokenFile = join(this.#folder, `${name}.token`);
    await writeFile(tokenFile, hostToken(this.#secret, name), { mode: 0o600 });
    const { binds, isIsolated } = this.#settings;
    const url = this.servers[0]?.url ?? '';
    const args = ['host', '--json', '--join', url, '--token-file', tokenFile];
    args.push('--state-dir', join(this.#folder, name));
    for (const bind of binds ?? []) args.push('--bind', bind);
    if (!isIsolated) args.push('--allow-unisolated');
    const child = this.#start(args, {}, []);
    await firstLine(child);
    this.#hosts.push(child);
  }

  /** Until the engine of that server can reach so many hosts. */
  async hasHosts(server: Server, count: number): Promise<void> {
    await until('the hosts to be connected', 30_000, async () => {
      const { body } = await server.ask('GET', '/readyz');
      return body.hosts_connected === count;
    });
  }

  /** Who drives a session; null where nobody does. */
  async ownerOf(session: string): Promise<Server | null> {
    const rows = await this.query<{ info: string | null }>(
      'SELECT w.info FROM streams s JOIN workers w ON w.worker = s.owner WHERE s.stream = $1',
      [session],
    );
    const { pid } = JSON.parse(rows[0]?.info ?? '{}') as { pid?: number };
    return this.servers.find((server) => server.pid === pid) ?? null;
  }

  async close(): Promise<void> {
    for (const { child } of this.servers) await ended(child);
    for (const child of this.#hosts) await ended(child);
    await this.#client.end();
  }

  get #secret(): string {
    return join(this.#folder, 'cluster.secret');
  }

  #start(args: string[], keys: Record<string, string>, flags: string[]): ChildProcess {
    const { node } = this.#settings;
    return start(commandFile, args, {
      ...(node === undefined ? {} : { node }),
      flags,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: process.env.TMPDIR, ...keys },
    });
  }
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill('SIGCONT');
  const timer = setTimeout(() => child.kill('SIGKILL'), endMs);
  await kill(child, 'SIGTERM');
  clearTimeout(timer);
}
