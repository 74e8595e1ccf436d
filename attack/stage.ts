/**
 * What an attack is made on: a whole `scriptorium up` in a folder of its own, with a world around it, services that must
 * not be reached, and secrets that must not be seen. Whatever happens, nothing that was started here is left.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { end, programFile, type Started, start } from '../chaos/processes.ts';
import { endHosts } from '../chaos/up-topology.ts';
import { Client } from './client.ts';
import { MaliciousModel } from './model.ts';
import { Forbidden, World, worldNames } from './world.ts';

export type Isolation = 'bubblewrap' | 'gvisor';

export type StageOptions = {
  folder: string;
  isolation: Isolation;
  /** Armed in the server, its host and its gateway; null: none. */
  failpoints: string | null;
};

export class CannotAttack extends Error {
  override name = 'CannotAttack';
}

/** Where everybody may write; only isolation keeps sandboxes out. */
const everybodys = 0o777;
const endMs = 15_000;
/** A file of the host's lies in it during the attack. */
const sharedMemory = '/dev/shm';
export function canary(kind: string): string {
  return `attack-canary-${kind}-${randomBytes(8).toString('hex')}`;
}

export class Stage {
  readonly folder: string;
  readonly world: World;
  readonly forbidden: Forbidden;
  readonly model: MaliciousModel;
  readonly client: Client;
  readonly url: string;
  readonly apiKey: string;
  readonly serverPid: number;
  readonly abstract: string;
  /** Seen inside by nobody. */
  readonly canaries: readonly string[];
  /** The secret of the vault. */
  readonly token: string;
  readonly failpoints: string | null;
  readonly isolation: Isolation;
  readonly #server: Started;

  private constructor(
    parts: Omit<Stage, 'client' | 'dataDir' | 'outside' | 'close' | 'environment'>,
    server: Started,
  ) {
    this.folder = parts.folder;
    this.world = parts.world;
    this.forbidden = parts.forbidden;
    this.model = parts.model;
    this.url = parts.url;
    this.apiKey = parts.apiKey;
    this.serverPid = parts.serverPid;
    this.abstract = parts.abstract;
    this.canaries = parts.canaries;
    this.token = parts.token;
    this.failpoints = parts.failpoints;
    this.isolation = parts.isolation;
    this.client = new Client(parts.url, parts.apiKey);
    this.#server = server;
  }

  static async open({ folder, failpoints, isolation }: StageOptions): Promise<Stage> {
    const [modelKey, apiKey, hostSecret, fileSecret, serviceSecret, token] = [
      ...['model', 'api', 'host', 'file', 'service', 'token'].map(canary),
    ] as [string, string, string, string, string, string];
    const abstract = `scriptorium-attack-${randomBytes(6).toString('hex')}`;
    const outside = path.join(folder, 'outside');
    mkdirSync(outside);
    chmodSync(outside, everybodys);
    writeFileSync(path.join(outside, 'secret'), fileSecret, { mode: 0o644 });
    placeProbes(path.join(folder, 'probes'));
    if (existsSync(sharedMemory)) writeFileSync(path.join(sharedMemory, abstract), fileSecret);
    const world = await World.start();
    writeFileSync(path.join(folder, 'world.pem'), world.authorityPem);
    const forbidden = await Forbidden.start(abstract, serviceSecret);
    const model = new MaliciousModel();
    await model.start();
    const server = await start([programFile('src/cli/main'), ...upArguments(folder, world.port)], {
      OPENAI_API_KEY: `sk-${modelKey}`,
      OPENAI_BASE_URL: model.url,
      SCRIPTORIUM_API_KEY: apiKey,
      // As a careless operator's shell would.
      HOSTSECRET: hostSecret,
      ...(failpoints === null ? {} : { SCRIPTORIUM_FAILPOINTS: failpoints }),
    });
    const canaries = [modelKey, apiKey, hostSecret, fileSecret, serviceSecret, token];
    const url = String(server.line.url);
    const parts = {
      folder,
      world,
      forbidden,
      model,
      url,
      apiKey,
      abstract,
      canaries,
      token,
      failpoints,
      isolation,
    };
    return new Stage({ ...parts, serverPid: server.pid }, server);
  }

  get dataDir(): string {
    return path.join(this.folder, 'data');
  }

  get outside(): string {
    return path.join(this.folder, 'outside');
  }

  /** What a script of that row finds in its environment. */
  environment(nonce: string, victim: string): Record<string, string> {
    return {
      NONCE: nonce,
      HOST_PORT: String(this.forbidden.port),
      HOST_PIDS: `${this.serverPid} ${process.pid} ${process.ppid}`,
      ABSTRACT: this.abstract,
      OUTSIDE: this.outside,
      DATA_DIR: this.dataDir,
      VICTIM: victim,
    };
  }

  async close(): Promise<void> {
    await end(this.#server.child, endMs);
    await endHosts(path.join(this.dataDir, 'host'));
    await endHosts(path.join(this.dataDir, 'gateway'));
    await this.model.stop();
    this.world.close();
    this.forbidden.close();
    rmSync(path.join(sharedMemory, this.abstract), { force: true });
  }
}

function upArguments(folder: string, worldPort: number): string[] {
  const place = ['--data-dir', path.join(folder, 'data'), '--port', '0', '--json'];
  const pins = worldNames.flatMap((name) => ['--resolve', `${name}=127.0.0.1:${worldPort}`]);
  const tools = ['--bind', `${path.join(folder, 'probes')}:/mnt/attack:ro`];
  return ['up', ...place, ...pins, '--trust-ca', path.join(folder, 'world.pem'), ...tools];
}

/** Compiled here and bound into every sandbox: a hostile program brings its own tools. */
function placeProbes(folder: string): void {
  mkdirSync(folder, { mode: 0o755 });
  const sources = path.resolve(import.meta.dirname, 'probes');
  for (const name of ['kernel', 'network', 'bombs'])
    try {
      const target = path.join(folder, name);
      execFileSync('cc', ['-O1', '-static', '-o', target, path.join(sources, `${name}.c`)], {
        stdio: 'pipe',
      });
    } catch (error) {
      rmSync(folder, { recursive: true, force: true });
      const why = (error as Error).message.split('\n', 1)[0];
      throw new CannotAttack(
        `the probes do not compile (${why}). Install a C compiler with a static libc (gcc and libc6-dev).`,
      );
    }
  copyFileSync(path.join(sources, 'dial.mjs'), path.join(folder, 'dial.mjs'));
}
