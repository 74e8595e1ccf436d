/**
 * Servers that never hear of their database again: no packet, no end of a connection. They give up by their own clock
 * before anybody takes over, their sessions go on elsewhere, and they do nothing more (L3). The witness is the model: it
 * is never listened to by two engines at once for one session.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type RecordedRequest, type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { FleetProcesses, get, type Running, until } from './peers/fleet-processes.ts';
import { TcpProxy } from './peers/tcp-proxy.ts';

/** What is lost of the connections to the database: all, or only the one that says who is alive. */
const losses = { everything: '', liveness: 'scriptorium liveness' };
type Loss = keyof typeof losses;
type Asked = { request: RecordedRequest; listenedTo: number };

let model: Rehearsal;
let fleet: FleetProcesses;
let api: Running;
let sound: Running;
const networks: TcpProxy[] = [];
const asked: Record<Loss, Asked[]> = { everything: [], liveness: [] };
const cases: { loss: Loss; session: string; engine: Running }[] = [];

const urlOf = (running: Running): string => running.line.url ?? '';

/** The first answer takes longer than any lease. */
function script({ userText }: Turn): Reply {
  const before = asked[userText.endsWith('liveness') ? 'liveness' : 'everything'];
  const request = model.requests.at(-1) as RecordedRequest;
  const listenedTo = before.filter((one) => one.request.serviceMs === null).length;
  before.push({ request, listenedTo });
  if (before.length === 1) return { text: 'word '.repeat(100), deltaChars: 5, eventDelayMs: 400 };
  return { text: 'said by another' };
}

/** An engine that has the session to itself, and then no database any more. */
async function partition(loss: Loss): Promise<void> {
  const network = await TcpProxy.start(fleet.databaseAddress);
  networks.push(network);
  const engine = await fleet.serve('engine', ['--database-url', fleet.databaseUrl(network.address)]);
  const said = await fleet.cli(urlOf(api), ['run', loss, '--detach']);
  await until(() => asked[loss].length === 1, 'the model is speaking');
  network.swallow(losses[loss]);
  cases.push({ loss, session: /sesn_[0-9A-Z]{26}/.exec(said)?.[0] ?? '', engine });
}

beforeAll(async () => {
  model = await startRehearsal({ script });
  fleet = await FleetProcesses.start(model.url);
  api = await fleet.serve('api');
  await partition('everything');
  await partition('liveness');
  sound = await fleet.serve('engine');
}, 60_000);

afterAll(async () => {
  // A server without its database cannot leave in order.
  for (const { engine } of cases) engine.child.kill('SIGKILL');
  for (const network of networks) await network.stop();
  await fleet?.end();
  await model?.stop();
}, 30_000);

it.each(Object.keys(losses) as Loss[])(
  'an engine that never hears of its database again stops by itself, and another one takes its session: %s is lost',
  async (loss) => {
    const { session, engine } = cases.find((one) => one.loss === loss) as (typeof cases)[number];
    await until(
      async () => (await get<{ status: string }>(urlOf(api), `/v1/sessions/${session}`)).status === 'idle',
      'the other one has brought the session to rest',
    );
    expect(asked[loss].map(({ listenedTo }) => listenedTo)).toEqual([0, 0]);
    expect(asked[loss].map(({ request }) => request.isAborted)).toEqual([true, false]);
    const events = await fleet.query<{ type: string; fence: number | null }>(
      'SELECT type, fence::int4 AS fence FROM events WHERE stream = $1 ORDER BY seq',
      [session],
    );
    expect(events.filter(({ type }) => type === 'agent.message')).toHaveLength(1);
    const fences = events.flatMap(({ fence }) => fence ?? []);
    expect(fences).toEqual([...fences].sort((one, other) => one - other));
    // It is there still, and belongs to nothing.
    expect(engine.child.exitCode).toBeNull();
    const workers = await fleet.query<{ info: string }>('SELECT info FROM workers', []);
    const pids = workers.map(({ info }) => (JSON.parse(info) as { pid: number }).pid);
    expect([pids.includes(engine.child.pid ?? 0), pids.includes(sound.child.pid ?? 0)]).toEqual([
      false,
      true,
    ]);
    // Whoever loses all of it may notice by another call first.
    if (loss === 'liveness') expect(engine.output()).toContain('its lease could not be renewed in time');
  },
);
