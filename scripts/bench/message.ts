/** From a message to the model: accepted (HTTP 200 here) → first request whole at the peer, on one clock. */
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import type { Peer } from './peer-process.ts';
import { temporaryFolder } from './processes.ts';
import type { ServerSettings } from './server-process.ts';
import { Server } from './server-process.ts';

type Latency = { fromAcceptedMs: number; fromSentMs: number };

const textOnly = { steps: '0' };
const messagesToLong = 9;

export async function measureMessages(server: Server, peer: Peer, messages: number): Promise<Figure[]> {
  const warm: Latency[] = [];
  const talk = await server.createSession();
  await oneMessage(server, peer, talk);
  for (let at = 0; at < messages; at++) warm.push(await oneMessage(server, peer, talk));
  const fresh: Latency[] = [];
  for (let at = 0; at < messages; at++)
    fresh.push(await oneMessage(server, peer, await server.createSession()));
  return [
    figure('message accepted → model request', 'ms', warm.map(accepted), {
      target: 5,
      note: 'same session; from the HTTP 200 here; below 0 the request was out before the answer',
    }),
    figure('  sent → model request', 'ms', warm.map(sent), { note: 'what no slow answer can flatter' }),
    figure('  accepted →, first message of a session', 'ms', fresh.map(accepted), { target: 5 }),
    figure('  sent →, first message of a session', 'ms', fresh.map(sent)),
  ];
}

/** The first message that a server gets in its life. */
export async function measureColdMessage(
  settings: Omit<ServerSettings, 'dataDir'>,
  starts: number,
): Promise<Figure[]> {
  const cold: Latency[] = [];
  for (let at = 0; at < starts; at++) {
    const dataDir = await temporaryFolder('cold');
    const server = (await Server.start({ ...settings, dataDir })).watch(settings.peer);
    cold.push(await oneMessage(server, settings.peer, await server.createSession()));
    await server.close();
  }
  return [
    figure('  accepted →, first message of a server', 'ms', cold.map(accepted), {
      note: 'cold: nothing loaded, no connection',
    }),
  ];
}

/** The same in a session with a long log. Its engine has let it go, so it is folded from the first event. */
export async function measureLongLog(
  server: Server,
  peer: Peer,
  session: string,
  steps: number,
): Promise<Figure[]> {
  const all: Latency[] = [];
  for (let at = 0; at < messagesToLong; at++) {
    all.push(await oneMessage(server, peer, session));
  }
  const events = (await server.events(session)).length;
  return [
    figure(`message to a session of ${steps} steps: sent → accepted`, 'ms', all.map(answered), {
      note: `its log shows ${events} events`,
    }),
    figure('  sent → model request', 'ms', all.map(sent)),
  ];
}

const accepted = (one: Latency): number => one.fromAcceptedMs;
const sent = (one: Latency): number => one.fromSentMs;
const answered = (one: Latency): number => one.fromSentMs - one.fromAcceptedMs;

async function oneMessage(server: Server, peer: Peer, session: string): Promise<Latency> {
  await peer.records();
  const done = peer.done();
  const { sentAtMs, atMs } = await server.send(session, textOnly);
  await done;
  await server.rests(session);
  const [first] = await peer.records();
  if (first === undefined) throw new Error('the model was not asked');
  return { fromAcceptedMs: first.receivedAtMs - atMs, fromSentMs: first.receivedAtMs - sentAtMs };
}
