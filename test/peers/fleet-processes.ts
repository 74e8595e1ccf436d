/**
 * A fleet for tests, of real processes started by the command line: apis and engines on one Postgres, hosts that join
 * them. Everything it started ends with `end`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PostgresServer } from './postgres-server.ts';

const entry = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
export const fleetKey = 'sk-scr-test-0123456789abcdefghijklmnopqrstuv';

export type Running = {
  child: ChildProcess;
  ended: Promise<number | null>;
  output(): string;
  stdout(): string;
  /** The first line of what it said, as JSON. */
  line: Record<string, string | null>;
};

export class FleetProcesses {
  readonly folder: string;
  /** What the operator lets every gateway reach. */
  gatewayArguments: string[] = [];
  /** Root's lie outside our folder. */
  readonly #captureFolders = new Set<string>();
  readonly #postgres: PostgresServer;
  readonly #modelUrl: string;
  readonly #children: ChildProcess[] = [];

  private constructor(postgres: PostgresServer, modelUrl: string) {
    this.#postgres = postgres;
    this.#modelUrl = modelUrl;
    this.folder = mkdtempSync(path.join(tmpdir(), 'fleet-'));
    writeFileSync(path.join(this.folder, 'secret'), 'a cluster secret that only this test knows', {
      mode: 0o600,
    });
    writeFileSync(path.join(this.folder, 'master.key'), Buffer.alloc(32, 7), { mode: 0o600 });
  }

  static async start(modelUrl: string): Promise<FleetProcesses> {
    const postgres = await PostgresServer.start();
    await postgres.query('postgres', 'CREATE DATABASE fleet');
    return new FleetProcesses(postgres, modelUrl);
  }

  async end(): Promise<void> {
    for (const child of this.#children) child.kill('SIGCONT');
    for (const child of this.#children) child.kill('SIGTERM');
    await Promise.all(this.#children.map((child) => ended(child, 3_000)));
    for (const child of this.#children) child.kill('SIGKILL');
    await this.#postgres.stop();
    for (const folder of [...this.#captureFolders, this.folder])
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  /** The database, also as it is reached through a proxy. */
  get databaseAddress(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.#postgres.port };
  }

  databaseUrl(through: { host: string; port: number }): string {
    return this.#postgres.url('fleet', through);
  }

  file(name: string): string {
    return path.join(this.folder, name);
  }

  async query<R extends object>(text: string, values: unknown[]): Promise<R[]> {
    return (await this.#postgres.query('fleet', text, values)) as R[];
  }

  launch(args: string[], env: Record<string, string> = {}): Omit<Running, 'line'> {
    const clean = Object.entries(process.env).filter(
      ([name]) => !/^(SCRIPTORIUM|OPENAI|GIT|VITEST)/.test(name),
    );
    const child = spawn(process.execPath, [entry, ...args], {
      env: {
        ...Object.fromEntries(clean),
        SCRIPTORIUM_DATA_DIR: this.file('cli'),
        SCRIPTORIUM_MODEL: 'rehearsal-1',
        SCRIPTORIUM_API_KEY: fleetKey,
        OPENAI_API_KEY: 'played',
        OPENAI_BASE_URL: this.#modelUrl,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const over = new Promise<number | null>((resolve) => child.once('close', resolve));
    return { child, ended: over, output: () => stdout + stderr, stdout: () => stdout };
  }

  async #started(running: Omit<Running, 'line'>): Promise<Running> {
    await until(
      () => running.stdout().includes('\n') || running.child.exitCode !== null,
      'it says where it is',
    );
    const [line = ''] = running.stdout().split('\n');
    if (!line.startsWith('{')) throw new Error(`it did not start: ${running.output()}`);
    return { ...running, line: JSON.parse(line) as Record<string, string | null> };
  }

  serve(role: string, more: string[] = [], env: Record<string, string> = {}): Promise<Running> {
    mkdirSync(this.file('data'), { recursive: true });
    const files = [
      '--master-key-file',
      this.file('master.key'),
      '--cluster-secret-file',
      this.file('secret'),
    ];
    const places = [
      '--listen',
      '127.0.0.1:0',
      '--internal-listen',
      '127.0.0.1:0',
      '--data-dir',
      this.file('data'),
    ];
    const database = ['--database-url', this.#postgres.url('fleet')];
    return this.#started(
      this.launch(['serve', '--json', '--role', role, ...database, ...files, ...places, ...more], env),
    );
  }

  async token(name: string, isGateway = false): Promise<string> {
    const whose = isGateway ? ['--gateway'] : [];
    const secret = ['--cluster-secret-file', this.file('secret')];
    const run = this.launch(['host-token', ...secret, '--name', name, ...whose]);
    await run.ended;
    return run.stdout().trim();
  }

  async host(name: string, apiUrl: string, token?: string, gatewayDir?: string): Promise<Running> {
    const more = ['--disk-driver', 'tar', ...(gatewayDir === undefined ? [] : ['--gateway-dir', gatewayDir])];
    return this.#join('host', name, { apiUrl, token: token ?? (await this.token(name)), more });
  }

  /** The gateway beside the host of that name. */
  async gateway(name: string, apiUrl: string, token?: string): Promise<Running> {
    const more = this.gatewayArguments;
    const to = { apiUrl, token: token ?? (await this.token(name, true)), more };
    const running = await this.#join('gateway', name, to);
    this.#captureFolders.add(running.line.capture_dir ?? this.folder);
    return running;
  }

  #join(role: string, name: string, to: { apiUrl: string; token: string; more: string[] }) {
    const tokenFile = this.file(`${role}-${name}.token`);
    writeFileSync(tokenFile, to.token, { mode: 0o600 });
    const stateDir = this.file(role === 'host' ? name : `${role}-${name}`);
    const args = ['--join', to.apiUrl, '--token-file', tokenFile, '--state-dir', stateDir, ...to.more];
    // Neither has any business with keys: they are started without them.
    const none = { SCRIPTORIUM_API_KEY: '', OPENAI_API_KEY: '', OPENAI_BASE_URL: '' };
    return this.#started(this.launch([role, '--json', ...args], none));
  }

  /** One command to its end, as a person would type it. */
  async cli(url: string, args: string[]): Promise<string> {
    const run = this.launch(args, { SCRIPTORIUM_URL: url });
    const code = await run.ended;
    if (code !== 0) throw new Error(`${args[0]} ended with ${code}: ${run.output()}`);
    return run.output();
  }
}

function ended(child: ChildProcess, forMs: number): Promise<unknown> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return Promise.race([new Promise((resolve) => child.once('close', resolve)), sleep(forMs)]);
}

export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  forMs = 20_000,
): Promise<void> {
  for (const endMs = Date.now() + forMs; !(await holds()); await sleep(20))
    if (Date.now() > endMs) throw new Error(`never: ${what}`);
}

export async function get<T>(url: string, place: string): Promise<T> {
  const response = await fetch(`${url}${place}`, { headers: { authorization: `Bearer ${fleetKey}` } });
  if (!response.ok) throw new Error(`${place}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}
