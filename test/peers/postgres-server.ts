/**
 * A real Postgres for a test: a fresh cluster in a temporary directory, on a free loopback port and a socket beside it,
 * with fsync as in production. Nothing of the machine is used but the programs.
 *
 * - Postgres does not run as root: as root it is started as `postgres`, or `nobody`, through setpriv.
 * - It ends when the test does, also when the test's process is killed: the kernel tells it so (pdeathsig).
 */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readdirSync } from 'node:fs';
import { appendFile, chown, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

export type ServerOptions = {
  /** More settings of the server, as in postgresql.conf. */
  settings?: Record<string, string>;
  /** PEM; the server then takes TLS connections too. */
  tls?: { key: Buffer; certificate: Buffer };
};

const prefix = 'scriptorium-postgres-';
const user = 'scriptorium';

/** Where Debian, and others, put the programs that are not on PATH. Newest first. */
function programFolder(): string {
  const root = '/usr/lib/postgresql';
  const debian = listed(root)
    .sort((one, other) => Number(other) - Number(one))
    .map((version) => path.join(root, version, 'bin'));
  const folders = [...debian, ...(process.env.PATH ?? '').split(path.delimiter)];
  const found = folders.find((folder) =>
    ['initdb', 'postgres'].every((name) => isProgram(path.join(folder, name))),
  );
  if (found === undefined) {
    throw new Error(
      'this test needs a Postgres server: initdb and postgres (Debian: apt-get install postgresql)',
    );
  }
  return found;
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Who runs the server, and the words before its command line. */
function runner(): { ids: { uid: number; gid: number } | null; words: string[] } {
  const untilParentDies = ['setpriv', '--pdeathsig=QUIT'];
  if (process.getuid?.() !== 0) return { ids: null, words: [...untilParentDies, '--'] };
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = ['-u', '-g'].map((flag) =>
        Number(execFileSync('id', [flag, name], { stdio: 'pipe' })),
      );
      if (uid === undefined || gid === undefined) continue;
      const words = [...untilParentDies, `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
      return { ids: { uid, gid }, words };
    } catch {
      // No such user: the next one.
    }
  }
  throw new Error('Postgres does not run as root, and there is neither a user postgres nor nobody');
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() =>
        typeof address === 'object' && address ? resolve(address.port) : reject(new Error('no port')),
      );
    });
  });
}

/** Postgres takes a private key only from a file that is its own and that nobody else can read. */
async function keepTlsFiles(
  data: string,
  { key, certificate }: { key: Buffer; certificate: Buffer },
  ids: { uid: number; gid: number } | null,
): Promise<void> {
  const files = { 'server.key': key, 'server.crt': certificate };
  for (const [name, bytes] of Object.entries(files)) {
    const file = path.join(data, name);
    await writeFile(file, bytes, { mode: 0o600 });
    if (ids !== null) await chown(file, ids.uid, ids.gid);
  }
}

/** Clusters of test runs that were killed before they could clean up. */
async function sweep(): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const owner = new RegExp(`^${prefix}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined) continue;
    try {
      process.kill(Number(owner), 0);
    } catch (error) {
      const isGone = error instanceof Error && 'code' in error && error.code === 'ESRCH';
      if (isGone)
        await rm(path.join(tmpdir(), name), { recursive: true, force: true }).catch(() => undefined);
    }
  }
}

export class PostgresServer {
  readonly directory: string;
  readonly port: number;
  readonly #words: string[];
  readonly #programs: string;
  readonly #killed = (): void => {
    this.#child?.kill('SIGQUIT');
  };
  #child: ChildProcess | null = null;

  private constructor(directory: string, port: number, words: string[], programs: string) {
    this.directory = directory;
    this.port = port;
    this.#words = words;
    this.#programs = programs;
  }

  static async start(options: ServerOptions = {}): Promise<PostgresServer> {
    await sweep();
    const programs = programFolder();
    const { ids, words } = runner();
    const directory = await mkdtemp(path.join(tmpdir(), `${prefix}${process.pid}-`));
    if (ids !== null) await chown(directory, ids.uid, ids.gid);
    const server = new PostgresServer(directory, await freePort(), words, programs);
    const data = path.join(directory, 'data');
    server.#run('initdb', ['-D', data, '-U', user, '-E', 'UTF8', '--locale=C', '-A', 'trust', '--no-sync']);
    if (options.tls !== undefined) await keepTlsFiles(data, options.tls, ids);
    const settings = {
      ssl: options.tls === undefined ? 'off' : 'on',
      listen_addresses: '127.0.0.1',
      port: String(server.port),
      unix_socket_directories: directory,
      max_connections: '100',
      shared_buffers: '64MB',
      log_min_messages: 'fatal',
      // After a kill: one call for the file system instead of one for each of thousands of files.
      recovery_init_sync_method: 'syncfs',
      ...options.settings,
    };
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
    await writeFile(path.join(data, 'postgresql.conf'), lines.join(''));
    await server.boot();
    process.once('exit', server.#killed);
    return server;
  }

  /**
   * A streaming standby: a copy of this server as it is now, which follows it through `through` (a proxy, where the test
   * has one). A server of its own otherwise: whoever starts it stops it.
   */
  async standby(through: { host: string; port: number }): Promise<PostgresServer> {
    const directory = await mkdtemp(path.join(tmpdir(), `${prefix}${process.pid}-`));
    const { ids } = runner();
    if (ids !== null) await chown(directory, ids.uid, ids.gid);
    const standby = new PostgresServer(directory, await freePort(), this.#words, this.#programs);
    const data = path.join(directory, 'data');
    const from = ['-h', '127.0.0.1', '-p', String(this.port), '-U', user];
    standby.#run('pg_basebackup', [...from, '-D', data, '-X', 'stream', '-c', 'fast', '--no-sync']);
    const signal = path.join(data, 'standby.signal');
    await writeFile(signal, '');
    if (ids !== null) await chown(signal, ids.uid, ids.gid);
    const settings = {
      port: String(standby.port),
      unix_socket_directories: directory,
      primary_conninfo: `host=${through.host} port=${through.port} user=${user}`,
    };
    // What comes later in the file counts.
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`);
    await appendFile(path.join(data, 'postgresql.conf'), lines.join(''));
    await standby.boot();
    process.once('exit', standby.#killed);
    return standby;
  }

  /** From now on commits wait until the standby, which has to be there, has them on its disk. */
  async waitForStandby(): Promise<void> {
    await this.query('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
    await this.query('postgres', 'SELECT pg_reload_conf()');
    const deadline = performance.now() + 30_000;
    for (;;) {
      const states = await this.query<{ sync_state: string }>(
        'postgres',
        'SELECT sync_state FROM pg_stat_replication',
      );
      if (states.some(({ sync_state }) => sync_state === 'sync')) return;
      if (performance.now() > deadline) throw new Error('no standby follows this server');
      await sleep(20);
    }
  }

  /** Makes a primary of a standby; resolves when it takes writes. */
  async promote(): Promise<void> {
    const [row] = await this.query<{ isDone: boolean }>('postgres', 'SELECT pg_promote() AS "isDone"');
    if (row?.isDone !== true) throw new Error('the standby was not promoted');
  }

  /** Starts the server on what is there; after a kill this is crash recovery. */
  async boot(): Promise<void> {
    const [program = '', ...rest] = [...this.#words, path.join(this.#programs, 'postgres')];
    const child = spawn(program, [...rest, '-D', path.join(this.directory, 'data')], {
      cwd: this.directory,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4_000);
    });
    this.#child = child;
    const deadline = performance.now() + 30_000;
    while (!(await this.#answers())) {
      if (child.exitCode !== null) throw new Error(`Postgres did not start: ${said}`);
      if (performance.now() > deadline) throw new Error(`Postgres does not answer: ${said}`);
      await sleep(20);
    }
  }

  /** `host` and `port` of something in between (a proxy), where the test has one. */
  url(
    database: string,
    through: { host: string; port: number } = { host: '127.0.0.1', port: this.port },
  ): string {
    return `postgres://${user}@${through.host}:${through.port}/${encodeURIComponent(database)}`;
  }

  /** One statement on one database, outside any store. */
  async query<R extends pg.QueryResultRow>(
    database: string,
    text: string,
    values: unknown[] = [],
  ): Promise<R[]> {
    const client = new pg.Client({ connectionString: this.url(database) });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<R>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  /** kill -9 of the server and every backend, as a machine's death would do it; without waiting for anything. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    const ended = once(child, 'exit');
    const backends = await this.#children(child.pid);
    for (const pid of [child.pid, ...backends]) tryKill(pid);
    await ended;
    this.#child = null;
    // The postmaster does not start while a backend of the old one is attached to its memory.
    for (const pid of backends) while (isAlive(pid)) await sleep(5);
  }

  async stop(): Promise<void> {
    process.off('exit', this.#killed);
    const child = this.#child;
    if (child !== null && child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      const timer = setTimeout(() => child.kill('SIGQUIT'), 5_000);
      await ended;
      clearTimeout(timer);
    }
    await rm(this.directory, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    try {
      await this.query('postgres', 'SELECT 1');
      return true;
    } catch {
      return false;
    }
  }

  #run(name: string, args: string[]): void {
    const [program = '', ...rest] = [...this.#words, path.join(this.#programs, name), ...args];
    execFileSync(program, rest, { cwd: this.directory, stdio: ['ignore', 'ignore', 'pipe'] });
  }

  async #children(pid: number): Promise<number[]> {
    const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return text.split(' ').filter(Boolean).map(Number);
  }
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone by itself.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
