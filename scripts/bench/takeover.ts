/**
 * A fleet loses the engine that drives a session: from the kill to the first event that the next owner wrote, as a client
 * at another api hears it over SSE.
 *
 * Two ways to be at work: in a command, which waits for a file that is taken away right after the kill, so that nothing
 * but us is waited for, and waiting for the model, which has to be asked again. The bench fails where a command ran
 * twice, or where the first event heard is not of a later owner.
 */
import { existsSync, rmSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nowMs, until } from './clock.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { Fleet } from './fleet.ts';
import type { Peer } from './peer-process.ts';
import { temporaryFolder } from './processes.ts';
import type { Server } from './server-process.ts';

export type TakeoverPlan = { kills: number; freezes: number };
type Settings = { peer: Peer; isIsolated: boolean };
type Work = 'command' | 'model';

const inside = '/bench-witness';
/** Of `src/store/postgres/membership.ts`; a frozen process cannot be told from a busy one before. */
const leaseMs = 10_000;
const modelMs = 1_000;

export async function measureTakeover(settings: Settings, { kills }: TakeoverPlan): Promise<Figure[]> {
  const stage = await Stage.open(settings);
  const figures: Figure[] = [];
  for (const work of ['command', 'model'] as const) {
    const times: number[] = [];
    await stage.takeover(work, 'SIGKILL');
    while (times.length < kills) times.push(await stage.takeover(work, 'SIGKILL'));
    figures.push(...killed(work, times));
  }
  await stage.close();
  return figures;
}

function killed(work: Work, times: number[]): Figure[] {
  const name = work === 'command' ? 'in a command' : 'while the model thinks';
  const note =
    work === 'command'
      ? 'kill -9, heard at an api of its own; the first event is the result; each command ran once'
      : 'the model is asked again, the first event is of that';
  return [
    figure(`owner killed ${name} → next event`, 'ms', times, { target: 200, note }),
    figure('  the same', 'ms', times, { told: 'p99', target: 500 }),
  ];
}

export async function measureFrozen(settings: Settings, { freezes }: TakeoverPlan): Promise<Figure[]> {
  const stage = await Stage.open(settings);
  const times: number[] = [];
  while (times.length < freezes) times.push(await stage.takeover('command', 'SIGSTOP'));
  await stage.close();
  return [
    figure('owner frozen in a command → next event', 'ms', times, {
      told: 'max',
      target: leaseMs + 2_000,
      note: `median ${shownMedian(times)}; the lease is ${leaseMs} ms; woken again, the first owner wrote nothing`,
    }),
  ];
}

const shownMedian = (times: number[]): string =>
  [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)]?.toFixed(0) ?? '';

/** An api, two servers (api and engine each) and a host; who dies is replaced before the next one does. */
class Stage {
  readonly #fleet: Fleet;
  /** Where clients and the host ask: it drives nothing, so what it streams came to it from another process. */
  readonly #api: Server;
  readonly #place: string;
  readonly #folder: string;
  #round = 0;

  private constructor(fleet: Fleet, api: Server, folder: string, place: string) {
    this.#fleet = fleet;
    this.#api = api;
    this.#folder = folder;
    this.#place = place;
  }

  static async open(settings: Settings): Promise<Stage> {
    const folder = join(await temporaryFolder('witness'), 'shared');
    await mkdir(folder);
    await chmod(folder, 0o777);
    const fleet = await Fleet.open({ ...settings, binds: [`${folder}:${inside}`] });
    const api = await fleet.serve('api');
    await fleet.serve('api,engine');
    await fleet.host('one');
    const stage = new Stage(fleet, api, folder, settings.isIsolated ? inside : folder);
    await stage.#refill();
    return stage;
  }

  close(): Promise<void> {
    return this.#fleet.close();
  }

  async takeover(work: Work, signal: 'SIGKILL' | 'SIGSTOP'): Promise<number> {
    this.#round += 1;
    const [marks, hold] = [`marks-${this.#round}`, `hold-${this.#round}`];
    await writeFile(join(this.#folder, hold), '');
    const session = await this.#begin(work, marks, hold);
    if (work === 'command')
      await until('the command to run', 20_000, () => existsSync(join(this.#folder, marks)));
    else await until('the model to be asked', 20_000, () => this.#isAsked(session));
    // Whatever is written because of the start is written, and the moment is not bound to the one before.
    await sleep(100 + Math.random() * 300);
    const owner = await this.#fleet.ownerOf(session);
    if (owner === null) throw new Error('nobody drives the session');
    const before = await this.#newest(session);
    const client = await listen(this.#api, session, before.seq);
    const atMs = nowMs();
    owner.child.kill(signal);
    rmSync(join(this.#folder, hold));
    const heard = await client.first;
    client.close();
    await this.#check(session, before, heard.seq);
    if (signal === 'SIGSTOP') await this.#wake(owner, session);
    await this.#api.rests(session);
    if (work === 'command') await this.#ranOnce(marks);
    await owner.crash();
    await this.#refill();
    return heard.atMs - atMs;
  }

  async #begin(work: Work, marks: string, hold: string): Promise<string> {
    const session = await this.#api.createSession();
    const place = this.#place;
    const command = `echo run >> ${place}/${marks}; while [ -e ${place}/${hold} ]; do sleep 0.005; done`;
    await this.#api.send(
      session,
      work === 'command' ? { steps: '1', command } : { steps: '0', latencyMs: String(modelMs) },
    );
    return session;
  }

  async #isAsked(session: string): Promise<boolean> {
    const query = "SELECT 1 FROM events WHERE stream = $1 AND type = 'model.intent'";
    return (await this.#fleet.query(query, [session])).length > 0;
  }

  async #newest(session: string): Promise<{ seq: number; fence: number }> {
    const query = 'SELECT head, fence FROM streams WHERE stream = $1';
    const [row] = await this.#fleet.query<{ head: string; fence: string }>(query, [session]);
    return { seq: Number(row?.head), fence: Number(row?.fence) };
  }

  /** A later owner's, and nothing was written in between by the one that was killed. */
  async #check(session: string, before: { seq: number; fence: number }, heard: number): Promise<void> {
    const query = 'SELECT seq, fence FROM events WHERE stream = $1 AND seq > $2 AND seq <= $3 ORDER BY seq';
    const rows = await this.#fleet.query<{ seq: string; fence: string | null }>(query, [
      session,
      before.seq,
      heard,
    ]);
    if (rows.length === 0 || rows.some(({ fence }) => Number(fence) <= before.fence))
      throw new Error(`what was heard is not of the next owner: ${JSON.stringify({ before, rows })}`);
  }

  /** It must notice that it is nobody any more. */
  async #wake(owner: Server, session: string): Promise<void> {
    const { seq, fence } = await this.#newest(session);
    owner.child.kill('SIGCONT');
    await sleep(1_500);
    const query = 'SELECT count(*) AS n FROM events WHERE stream = $1 AND seq > $2 AND fence < $3';
    const [row] = await this.#fleet.query<{ n: string }>(query, [session, seq, fence]);
    if (Number(row?.n) > 0) throw new Error('a woken engine wrote under its old fence');
  }

  async #ranOnce(marks: string): Promise<void> {
    const lines = (await readFile(join(this.#folder, marks), 'utf8')).trim().split('\n');
    if (lines.length !== 1) throw new Error(`the command ran ${lines.length} times`);
  }

  async #refill(): Promise<void> {
    await this.#fleet.serve('api,engine');
    const engines = this.#fleet.servers.filter((server) => server !== this.#api);
    for (const engine of engines) await this.#fleet.hasHosts(engine, 1);
  }
}

/** From its next event on; resolves once the stream is open. */
function listen(
  server: Server,
  session: string,
  after: number,
): Promise<{ first: Promise<{ seq: number; atMs: number }>; close(): void }> {
  return new Promise((resolve, reject) => {
    const url = new URL(`/v1/sessions/${session}/events/stream`, server.url);
    const headers = { ...server.headers, 'last-event-id': String(after) };
    const call = get(url, { headers, agent: false }, (response) => {
      const first = new Promise<{ seq: number; atMs: number }>((heard, lost) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          const atMs = nowMs();
          text += chunk.toString();
          const seq = /^id: (\d+)$/m.exec(text)?.[1];
          if (seq !== undefined) heard({ seq: Number(seq), atMs });
        });
        response.once('close', () => lost(new Error('the stream ended before the next owner wrote')));
      });
      first.catch(() => {});
      if (response.statusCode === 200) resolve({ first, close: () => call.destroy() });
      else reject(new Error(`the stream answered ${response.statusCode}`));
    });
    call.on('error', reject);
  });
}
