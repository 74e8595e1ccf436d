/**
 * Many people watch: SSE clients on sessions at work. How long an event takes from its time in the log (given before its
 * commit) to a client's read, and whether each client got every event: the bench fails where one did not.
 *
 * The clients, the model, the server, its host and all sandboxes share the machine; the reference is the same work with
 * one client to a session.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { Peer } from './peer-process.ts';
import { cpuSecondsOf, kill, lastWordsOf, start, temporaryFolder } from './processes.ts';
import { Server } from './server-process.ts';
import type { FromClients, ToClients } from './watcher-clients.ts';

export type WatchersPlan = { sessions: number; perSession: number; steps: number };
type Settings = { peer: Peer; isIsolated: boolean; flags?: string[] };
type Checked = Extract<FromClients, { type: 'checked' }>;

/** The model's part of a step: no real one is as quick. */
const thinkingMs = 700;
const targetMs = 50;
const answerMs = 120_000;

export async function measureWatchers(settings: Settings, plan: WatchersPlan): Promise<Figure[]> {
  const alone = await watched(settings, { ...plan, perSession: 1 });
  const many = await watched(settings, plan);
  const clients = plan.sessions * plan.perSession;
  const what = `from the event's time, before its commit, to the client's read; a step every ${thinkingMs} ms and a bit in ${plan.sessions} sessions`;
  const none = 'none lost an event';
  return [
    figure(`event → ${clients} SSE clients of ${plan.sessions} busy sessions`, 'ms', many.latenciesMs, {
      told: 'p99',
      target: targetMs,
      note: `${what}; ${described(many)}; ${none}`,
    }),
    figure('  the same', 'ms', many.latenciesMs),
    figure(`  reference: ${plan.sessions} clients, one to a session`, 'ms', alone.latenciesMs, {
      told: 'p99',
      note: described(alone),
    }),
    figure('  the same', 'ms', alone.latenciesMs),
  ];
}

type Watched = Checked & { seconds: number; serverSeconds: number };

const described = ({ latenciesMs, seconds, cpuSeconds, serverSeconds }: Watched): string =>
  `${(latenciesMs.length / seconds).toFixed(0)} frames a second; the server took ${percent(serverSeconds / seconds)} of a core, the clients ${percent(cpuSeconds / seconds)}`;

const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;

async function watched(settings: Settings, plan: WatchersPlan): Promise<Watched> {
  const server = await Server.start({ ...settings, dataDir: await temporaryFolder('watched') });
  const sessions: string[] = [];
  // With a first turn done: code is loaded, and every session has its sandbox.
  for (let at = 0; at < plan.sessions; at++) sessions.push(await server.createSession({ steps: '1' }));
  for (const session of sessions) await server.rests(session);
  const clients = start(path.join(import.meta.dirname, 'watcher-clients.ts'), [], {});
  await said(clients, 'ready');
  const port = Number(new URL(server.url).port);
  ask(clients, { type: 'open', port, headers: server.headers, sessions, perSession: plan.perSession });
  await said(clients, 'open');
  await sleep(500);
  const sinceMs = Date.now();
  const cpuBefore = cpuSecondsOf(server.pid);
  for (const session of sessions) {
    await server.send(session, { steps: String(plan.steps), latencyMs: String(thinkingMs) });
    // Not in step with each other: people are not.
    await sleep(thinkingMs / plan.sessions);
  }
  for (const session of sessions) await server.rests(session);
  const seconds = (Date.now() - sinceMs) / 1000;
  const serverSeconds = cpuSecondsOf(server.pid) - cpuBefore;
  const expected: Record<string, string[]> = {};
  for (const session of sessions) expected[session] = (await server.events(session)).map(({ id }) => id);
  ask(clients, { type: 'check', expected, sinceMs });
  const checked = await said(clients, 'checked');
  await kill(clients, 'SIGKILL');
  await server.close();
  if (checked.problems.length > 0) throw new Error(`events were lost: ${checked.problems.join('; ')}`);
  return { ...checked, seconds, serverSeconds };
}

type Clients = ReturnType<typeof start>;

function ask(clients: Clients, message: ToClients): void {
  clients.send(message);
}

function said<T extends FromClients['type']>(
  clients: Clients,
  type: T,
): Promise<Extract<FromClients, { type: T }>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => end(() => reject(new Error('the clients are silent'))), answerMs);
    const onMessage = (message: unknown): void => {
      const one = message as FromClients;
      if (one.type === type) end(() => resolve(one as Extract<FromClients, { type: T }>));
    };
    const onExit = (): void => end(() => reject(new Error(`the clients ended: ${lastWordsOf(clients)}`)));
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      clients.off('message', onMessage);
      clients.off('exit', onExit);
      settle();
    };
    clients.on('message', onMessage);
    clients.on('exit', onExit);
  });
}
