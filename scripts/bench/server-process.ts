/** One server of ours, `scriptorium up` in its own process, and the few calls of its API that the bench makes. */
import type { ChildProcess } from 'node:child_process';
import { Agent, request } from 'node:http';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { nowMs, until } from './clock.ts';
import { commandFile } from './code-under-test.ts';
import type { Peer } from './peer-process.ts';
import { atEnd, endHost, hasEnded, kill, lastWordsOf, start } from './processes.ts';

export type ServerSettings = {
  dataDir: string;
  peer: Peer;
  port?: number;
  binds?: string[];
  isIsolated: boolean;
  /** A copy of Node, so that no other process shares its pages. */
  node?: string;
  flags?: string[];
};

export type Answer = { status: number; body: Record<string, unknown>; sentAtMs: number; atMs: number };

export type LogEvent = { id: string; type: string; time: number; durationMs: number | null };

const collector = path.join(import.meta.dirname, 'collect-on-message.mjs');
export const collectingFlags = ['--expose-gc', `--import=${pathToFileURL(collector).href}`];

const readyLimitMs = 20_000;
export const apiKey = 'sk-scriptorium-bench-0123456789abcdef';

export class Server {
  readonly child: ChildProcess;
  readonly dataDir: string;
  readonly spawnedAtMs: number;
  readonly url: string;
  readonly readyAtMs: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });
  #setUp: { agent: string; environment: string } | null = null;

  private constructor(
    child: ChildProcess,
    dataDir: string,
    times: { spawned: number; ready: number },
    url: string,
  ) {
    this.child = child;
    this.dataDir = dataDir;
    this.spawnedAtMs = times.spawned;
    this.readyAtMs = times.ready;
    this.url = url;
  }

  static async start(settings: ServerSettings): Promise<Server> {
    const { dataDir, peer } = settings;
    atEnd(() => endHost(dataDir));
    const spawned = nowMs();
    const child = start(commandFile, argumentsOf(settings), {
      ...(settings.node === undefined ? {} : { node: settings.node }),
      flags: settings.flags ?? [],
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        OPENAI_API_KEY: peer.apiKey,
        OPENAI_BASE_URL: peer.url,
        SCRIPTORIUM_API_KEY: apiKey,
      },
    });
    return Server.attach(child, dataDir, spawned);
  }

  /** Waits for the line that says where it listens. */
  static async attach(child: ChildProcess, dataDir: string, spawned = nowMs()): Promise<Server> {
    const line = await firstLine(child);
    const ready = nowMs();
    return new Server(child, dataDir, { spawned, ready }, (JSON.parse(line) as { url: string }).url);
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** In order: the host goes too, unless it has work. */
  async close(): Promise<void> {
    this.#agent.destroy();
    if (hasEnded(this.child)) return;
    const gone = new Promise<void>((resolve) => this.child.once('exit', () => resolve()));
    this.child.kill('SIGTERM');
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await gone;
    clearTimeout(timer);
    await endHost(this.dataDir);
  }

  async crash(): Promise<void> {
    this.#agent.destroy();
    await kill(this.child, 'SIGKILL');
  }

  /** With `collectingFlags`: collects garbage in the server, so that what is held is measured. In bytes. */
  collectGarbage(): Promise<number> {
    return new Promise((resolve, reject) => {
      const onExit = (): void => reject(new Error('the server ended'));
      this.child.once('message', (liveBytes) => {
        this.child.off('exit', onExit);
        resolve(Number(liveBytes));
      });
      this.child.once('exit', onExit);
      this.child.send('collect');
    });
  }

  get headers(): Record<string, string> {
    return { authorization: `Bearer ${apiKey}` };
  }

  ask(method: string, where: string, body?: object): Promise<Answer> {
    return ask(this.#agent, method, new URL(where, this.url), body);
  }

  /** An agent with the whole toolset, allowed to use it, and an environment; made once. */
  async createSession(firstMessage?: Record<string, string>): Promise<string> {
    this.#setUp ??= await this.#prepare();
    const { agent, environment } = this.#setUp;
    const created = await this.must('POST', '/v1/sessions', {
      agent,
      environment_id: environment,
      ...(firstMessage === undefined ? {} : { initial_events: [messageOf(firstMessage)] }),
    });
    return String(created.body.id);
  }

  async #prepare(): Promise<{ agent: string; environment: string }> {
    const tools = [
      {
        type: 'agent_toolset_20260401',
        default_config: { permission_policy: { type: 'always_allow' } },
      },
    ];
    const agent = await this.must('POST', '/v1/agents', { name: 'Bench', model: 'rehearsal-1', tools });
    const name = `bench ${Math.round(nowMs() * 1000)}`;
    const environment = await this.must('POST', '/v1/environments', { name });
    return { agent: String(agent.body.id), environment: String(environment.body.id) };
  }

  async must(method: string, where: string, body?: object): Promise<Answer> {
    const answer = await this.ask(method, where, body);
    if (answer.status === 200) return answer;
    throw new Error(`${method} ${where} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  }

  /** The whole log, as the API shows it. */
  async events(session: string): Promise<LogEvent[]> {
    const events: LogEvent[] = [];
    for (let page: string | null = ''; page !== null; ) {
      const query: string = page === '' ? '' : `&page=${encodeURIComponent(page)}`;
      const { body } = await this.must('GET', `/v1/sessions/${session}/events?limit=500&order=asc${query}`);
      events.push(...(body.data as Record<string, unknown>[]).map(logEvent));
      page = typeof body.next_page === 'string' ? body.next_page : null;
    }
    return events;
  }

  /** `atMs` of the answer is when it was accepted. */
  send(session: string, settings: Record<string, string>): Promise<Answer> {
    return this.must('POST', `/v1/sessions/${session}/events`, { events: [messageOf(settings)] });
  }

  /** Sends, and waits until the session rests again. Asks nothing of the server while it works. */
  async run(session: string, settings: Record<string, string>): Promise<void> {
    const done = this.#peerDone();
    await this.send(session, settings);
    await done;
    await this.rests(session);
  }

  #peerDone: () => Promise<void> = () => Promise.resolve();

  /** Which peer says that a run is over. */
  watch(peer: Peer): this {
    this.#peerDone = () => peer.done();
    return this;
  }

  rests(session: string): Promise<void> {
    return until(`session ${session} to rest`, 60_000, async () => {
      const { body } = await this.must('GET', `/v1/sessions/${session}`);
      return body.status === 'idle';
    });
  }
}

function messageOf(settings: Record<string, string>): object {
  return { type: 'user.message', content: [{ type: 'text', text: JSON.stringify(settings) }] };
}

function argumentsOf({ dataDir, port, binds, isIsolated }: ServerSettings): string[] {
  const args = ['up', '--json', '--data-dir', dataDir, '--port', String(port ?? 0)];
  for (const bind of binds ?? []) args.push('--bind', bind);
  if (!isIsolated) args.push('--allow-unisolated');
  return args;
}

function logEvent(event: Record<string, unknown>): LogEvent {
  return {
    id: String(event.id),
    type: String(event.type),
    time: Date.parse(String(event.created_at ?? event.processed_at)),
    durationMs: typeof event.duration_ms === 'number' ? event.duration_ms : null,
  };
}

function ask(agent: Agent, method: string, url: URL, body?: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' };
    const sentAtMs = nowMs();
    const call = request(url, { method, agent, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const atMs = nowMs();
        const text = Buffer.concat(chunks).toString();
        resolve({
          status: response.statusCode ?? 0,
          body: JSON.parse(text) as Answer['body'],
          sentAtMs,
          atMs,
        });
      });
    });
    call.on('error', reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** One GET that neither keeps nor needs a connection; null where nobody answers. */
export function statusOf(url: URL): Promise<number | null> {
  return new Promise((resolve) => {
    const call = request(url, { agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? null);
    });
    call.on('error', () => resolve(null));
    call.end();
  });
}

/** Rejects where it ends before it has said anything. */
export function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    if (child.stdout === null) throw new Error('no stdout');
    const timer = setTimeout(() => reject(new Error('the server is not ready in time')), readyLimitMs);
    createInterface({ input: child.stdout }).once('line', (line) => {
      clearTimeout(timer);
      resolve(line);
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`the server ended with ${code} before it was ready: ${lastWordsOf(child)}`));
    });
  });
}
