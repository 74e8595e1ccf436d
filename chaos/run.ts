/**
 * One run: sets the stage, opens the processes, lets clients work while the plan inflicts its faults, then waits until
 * everything is quiet and collects the evidence. Bounded in time at every step; what it started it ends.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { JsonObject } from '../src/protocol/json.ts';
import type { Ask } from './ask.ts';
import { asker, insist } from './ask.ts';
import { check, type Verdict } from './check.ts';
import { Clients } from './clients.ts';
import { readStore } from './collect.ts';
import type { Evidence, Group, SessionEvidence } from './evidence.ts';
import { type Inflicted, inflict, type Strike } from './inflict.ts';
import type { Plan } from './plan.ts';
import { planOf, type Scope } from './plan.ts';
import { type News, type Recovery, recoveriesOf } from './recovery.ts';
import { type Stage, setStage } from './stage.ts';
import type { Death, Topology } from './topology.ts';
import { UpTopology } from './up-topology.ts';

export type RunOptions = {
  seed: number;
  store: 'sqlite' | 'postgres';
  /** Enough is asked for when so many steps are done. */
  steps: number;
  /** The attack ends then at the latest. */
  seconds: number;
  sessions: number;
  /** From one fault to the next, on average. */
  paceMs: number;
  /** Made by the caller, who also removes it. */
  folder: string;
  /** Armed in every life: a protection taken out, to see whether anybody notices. */
  sabotage: string | null;
  say(line: string): void;
};

export type RunResult = {
  verdict: Verdict;
  evidence: Evidence;
  inflicted: Inflicted;
  /** What was done and when, wall clock. */
  strikes: readonly Strike[];
  deaths: readonly Death[];
  fired: string[];
  recovery: Recovery;
  steps: number;
  acknowledged: number;
  readers: number;
  connections: number;
  starts: number;
  readyMs: number[];
  attackMs: number;
};

const readersOfSession = 3;
const serversOfFleet = 3;
/** Below the folder of a fleet, the state of each host. */
export const hostFolders = ['host-0', 'host-1'];
/** Above what a long log and a busy machine need; what has to wait for something waits for less. */
const restLimitMs = 180_000;
const listLimitMs = 60_000;
const apiKey = 'sk-scriptorium-chaos-0123456789abcdef';

export async function run(options: RunOptions): Promise<RunResult> {
  const plan = planOf(options.seed, { paceMs: options.paceMs, isFleet: options.store === 'postgres' });
  const stage = await setStage(options.folder);
  const topology = await makeTopology(options, plan, stage);
  // Clients reach whichever process serves now.
  const aiming = setInterval(() => aim(stage, topology), 20);
  try {
    await topology.open();
    aim(stage, topology);
    return await attack(options, { plan, stage, topology });
  } finally {
    clearInterval(aiming);
    await topology.close();
    await stage.close();
  }
}

function aim(stage: Stage, topology: Topology): void {
  stage.clientWire.target = topology.address();
}

async function makeTopology(options: RunOptions, plan: Plan, stage: Stage): Promise<Topology> {
  const pauses = plan.random('pauses');
  const { bind } = stage;
  const restartMs = (): number => pauses.between(0, 200);
  const armed = (scope: Scope): string => [plan.nextLife(scope), options.sabotage].filter(Boolean).join(';');
  const env = {
    SCRIPTORIUM_API_KEY: apiKey,
    OPENAI_API_KEY: 'sk-rehearsal',
    OPENAI_BASE_URL: stage.modelUrl,
  };
  const common = { bind, env, restartMs };
  if (options.store === 'sqlite') {
    const dataDir = path.join(options.folder, 'data');
    return new UpTopology({ ...common, dataDir, nextLife: () => armed('all') });
  }
  // Whoever attacks the embedded store needs no driver.
  const { FleetTopology } = await import('./fleet-topology.ts');
  const joinUrl = `http://127.0.0.1:${stage.clientWire.port}`;
  const folder = path.join(options.folder, 'fleet');
  return FleetTopology.make({
    ...common,
    folder,
    joinUrl,
    servers: serversOfFleet,
    hosts: hostFolders,
    nextLife: armed,
  });
}

type Field = { plan: Plan; stage: Stage; topology: Topology };

async function attack(options: RunOptions, field: Field): Promise<RunResult> {
  const { stage, topology, plan } = field;
  const url = `http://127.0.0.1:${stage.clientWire.port}`;
  const ask = asker(url, apiKey);
  const startedMs = performance.now();
  const over = new AbortController();
  const news = new Map<string, News[]>();
  let steps = 0;
  const onNews = (session: string, group: Group): void => {
    const before = news.get(session) ?? [];
    news.set(session, before);
    before.push({ seq: group.seq, monotonicMs: performance.now() });
    for (const frame of group.frames) if (resultTypes.has(frame.type)) steps++;
    if (steps >= options.steps) over.abort();
  };
  const strikes: Strike[] = [];
  const inflicting = inflict(field, over.signal, strikes);
  const sessions = await createSessions(options.sessions, ask);
  options.say(`${sessions.length} sessions are at work under attack`);
  const clients = sessions.map(
    (session, index) =>
      new Clients({
        session,
        ask,
        url,
        apiKey,
        random: plan.random(`client ${index}`),
        readers: readersOfSession,
        wantsMore: () => !over.signal.aborted,
        onNews: (group) => onNews(session, group),
      }),
  );
  await sleep(options.seconds * 1000, undefined, { signal: over.signal }).catch(() => {});
  over.abort();
  const inflicted = await inflicting;
  const attackMs = performance.now() - startedMs;
  options.say(
    `the attack is over after ${Math.round(attackMs / 1000)} s and ${steps} steps; waiting for rest`,
  );
  await topology.calm();
  await Promise.all(clients.map((client) => client.settle()));
  const unrest = await untilRest(sessions, clients, ask);
  const evidence = await collect({ sessions, unrest, clients, ask, field });
  return {
    verdict: check(evidence),
    evidence,
    inflicted,
    strikes,
    deaths: topology.deaths,
    fired: topology.fired(),
    recovery: recoveriesOf(
      topology.deaths,
      evidence.sessions.map(({ id, log }) => ({ log, news: news.get(id) ?? [] })),
    ),
    steps,
    acknowledged: evidence.inputs.filter((input) => input.acknowledged.length > 0).length,
    readers: evidence.readers.length,
    connections: evidence.readers.reduce((sum, reader) => sum + reader.connections, 0),
    starts: topology.starts(),
    readyMs: topology.readyMs().sort((a, b) => a - b),
    attackMs,
  };
}

const resultTypes = new Set(['agent.tool_result', 'user.custom_tool_result']);

async function createSessions(count: number, ask: Ask): Promise<string[]> {
  const never = new AbortController().signal;
  const make = async (where: string, json: JsonObject, key: string): Promise<string> => {
    const options = { json, key };
    const made = await insist(
      () => ask('POST', where, options),
      never,
      () => sleep(100),
    );
    if (made?.status !== 200) throw new Error(`${where} answered ${JSON.stringify(made)}`);
    return String(made.body.id);
  };
  const environment_id = await make('/v1/environments', { name: 'chaos' }, 'environment');
  const agent = await make('/v1/agents', agentOfChaos, 'agent');
  return Promise.all(
    Array.from({ length: count }, (_, index) =>
      make('/v1/sessions', { agent, environment_id, title: `chaos ${index}` }, `session-${index}`),
    ),
  );
}

const agentOfChaos: JsonObject = {
  name: 'chaos',
  model: 'rehearsal-1',
  tools: [
    {
      type: 'agent_toolset_20260401',
      default_config: { permission_policy: { type: 'always_allow' } },
      configs: [{ name: 'write', permission_policy: { type: 'always_ask' } }],
    },
    {
      type: 'custom',
      name: 'ask_clerk',
      description: 'Asks the clerk.',
      input_schema: { type: 'object', properties: { question: { type: 'string' } } },
    },
  ],
};

/**
 * Why each session is not at rest when the time is up; an empty map is a good end. One that was found at rest stays so:
 * nobody sends any more. Few are asked at once, for logs may be long.
 */
async function untilRest(sessions: string[], clients: Clients[], ask: Ask): Promise<Map<string, string>> {
  const endMs = performance.now() + restLimitMs;
  const unrest = new Map(sessions.map((session) => [session, 'it was not asked']));
  for (;;) {
    const asked = sessions.flatMap((session, index) => (unrest.has(session) ? [{ session, index }] : []));
    await fewAtOnce(asked, async ({ session, index }) => {
      const why = await restlessness(session, clients[index] as Clients, ask);
      if (why === null) unrest.delete(session);
      else unrest.set(session, why);
    });
    if (unrest.size === 0 || performance.now() > endMs) return unrest;
    await sleep(500);
  }
}

const atOnce = 4;

async function fewAtOnce<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const left = [...all];
  const worker = async (): Promise<void> => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function restlessness(session: string, clients: Clients, ask: Ask): Promise<string | null> {
  const found = await ask('GET', `/v1/sessions/${session}`);
  if (found === 'lost' || found.status !== 200) return `the API says nothing of it: ${JSON.stringify(found)}`;
  const { status, stop_reason } = found.body as { status: string; stop_reason: { type?: string } | null };
  if (status !== 'idle') return `it is ${status}`;
  if (stop_reason?.type === 'requires_action') return 'it waits for an answer';
  const waiting = await waitingMessages(session, ask);
  if (waiting === null) return 'the API does not list its events';
  if (waiting.length > 0) return `${waiting.length} messages wait in an idle session`;
  return clients.isBusy() ? 'a client still waits for an answer' : null;
}

/** Of the newest events: no client lets more wait. */
async function waitingMessages(session: string, ask: Ask): Promise<JsonObject[] | null> {
  const query = 'types=user.message&order=desc&limit=20';
  const newest = await ask('GET', `/v1/sessions/${session}/events?${query}`);
  if (newest === 'lost' || newest.status !== 200) return null;
  return (newest.body.data as JsonObject[]).filter((event) => event.processed_at === null);
}

export async function listEvents(session: string, ask: Ask): Promise<JsonObject[]> {
  const events: JsonObject[] = [];
  for (let page: string | null = ''; page !== null; ) {
    const query: string = page === '' ? '' : `&page=${encodeURIComponent(page)}`;
    const where = `/v1/sessions/${session}/events?limit=1000&order=asc${query}`;
    const answer = await insist(
      () => ask('GET', where),
      AbortSignal.timeout(listLimitMs),
      () => sleep(100),
    );
    if (answer?.status !== 200) throw new Error(`no list of ${session}`);
    events.push(...(answer.body.data as JsonObject[]));
    page = typeof answer.body.next_page === 'string' ? answer.body.next_page : null;
  }
  return events;
}

type Collecting = {
  sessions: string[];
  unrest: Map<string, string>;
  clients: Clients[];
  ask: Ask;
  field: Field;
};

async function collect({ sessions, unrest, clients, ask, field }: Collecting): Promise<Evidence> {
  const { topology, stage } = field;
  const listed = new Map<string, JsonObject[]>();
  await fewAtOnce(sessions, async (session) => void listed.set(session, await listEvents(session, ask)));
  // Streams are live: a moment is enough, if they are as they should be.
  await untilCaughtUp(clients);
  const readers = (await Promise.all(clients.map((client) => client.stop()))).flat();
  await topology.quit();
  const { logs, audits } = await readStore(topology, sessions);
  const { deaths } = topology;
  return {
    sessions: sessions.map(
      (id, index): SessionEvidence => ({
        id,
        log: logs[index] ?? [],
        listed: listed.get(id) ?? [],
        unrest: unrest.get(id) ?? null,
      }),
    ),
    inputs: clients.flatMap((client) => client.inputs),
    readers,
    effects: stage.effects(),
    hostDeaths: deaths.flatMap(({ role, atMs, host = null }) => (role === 'host' ? [{ atMs, host }] : [])),
    clockJumped: topology.fired().some((name) => name.startsWith('clock=')),
    crashes: deaths.filter(isCrash).map((death) => `${death.role}: ${death.cause}`),
    audits,
  };
}

function isCrash({ cause }: Death): boolean {
  return cause !== 'kill' && !cause.startsWith('failpoint:');
}

/** All readers of a session at the same position, and no movement for a moment; or three seconds. */
async function untilCaughtUp(clients: Clients[]): Promise<void> {
  const positions = (): string =>
    JSON.stringify(clients.map((client) => client.readers.map((reader) => reader.lastSeq)));
  const isEven = (): boolean =>
    clients.every((client) => new Set(client.readers.map((reader) => reader.lastSeq)).size === 1);
  let before = '';
  for (let left = 12; left > 0; left--) {
    await sleep(250);
    const now = positions();
    if (now === before && isEven()) return;
    before = now;
  }
}
