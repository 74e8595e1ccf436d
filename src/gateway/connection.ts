/**
 * One connection of a sandbox: whom it means, whether it may, and how it is carried (S2, S4).
 *
 * The destination address stands for a name (or is an IPv4 that a rule names). Port 443 must speak TLS and port 80
 * HTTP; on other ports the first bytes tell, and bytes that are neither pass only where no rule speaks of requests.
 * TLS must name the very host in its SNI. What may not pass is reset, and said in the log.
 */
import type { Socket } from 'node:net';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import { looksLikeTls, readClientHello } from './client-hello.ts';
import type { DecisionKey } from './decisions.ts';
import { canonicalName } from './pattern.ts';
import { peek } from './peek.ts';
import { type ConnectionDecision, decideConnection, needsTermination } from './rules.ts';
import type { Carriage, LiveSession } from './session.ts';
import { tunnel } from './tunnel.ts';
import { isFailure, type Upstream } from './upstream.ts';

/** Where the sandbox meant to go. */
export type Destination = { address: string; port: number };

/** What ends HTTP in the gateway: judges each request and sends it on. */
export type HttpFront = {
  serveHttp(session: LiveSession, carriage: Carriage): void;
  serveTls(session: LiveSession, carriage: Carriage): Promise<void>;
};

export type ConnectionParts = {
  upstream: Upstream;
  front: HttpFront;
  /** For the bytes that a protocol must begin with. */
  helloTimeoutMs?: number;
  /** On ports without a protocol of their own: how long the client may be first to speak. */
  firstBytesMs?: number;
};

type Speech = 'tls' | 'http' | 'other';

const maxRequestLineBytes = 8_192;
const requestLine = /^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) [^\r\n]* HTTP\/1\.[01]\r?\n/;
const methods = ['GET ', 'HEAD ', 'POST ', 'PUT ', 'PATCH ', 'DELETE ', 'OPTIONS '];

/** Takes the socket over; it is gone when the connection has ended. Never rejects. */
export async function carry(
  session: LiveSession,
  parts: ConnectionParts,
  socket: Socket,
  destination: Destination,
): Promise<void> {
  // Small answers must not wait for the acknowledgement of the ones before.
  // Many requests may wait for its end.
  socket
    .setNoDelay(true)
    .setMaxListeners(0)
    .on('error', () => undefined);
  const { port } = destination;
  const host = session.hostAt(destination.address);
  const place = { protocol: 'tcp' as const, host: host ?? destination.address, port };
  if (host === null) {
    return refuse(session, socket, place, 'the address was not given for any name, and no rule names it');
  }
  const carriage: Carriage = { socket, host, port, opaque: false, requests: 0 };
  const full = session.admit(carriage);
  if (full !== null) return refuse(session, socket, place, full);
  const evaluate = () => decideConnection(session.rules, host, port);
  const decision = await session.settle(place, evaluate, socket);
  if (socket.destroyed) return;
  if (decision.effect !== 'allow') return refuse(session, socket, place, decision.reason, decision.rule);
  const speech = await listen(socket, port, decision.perRequest, parts);
  if (speech === 'tls') return carryTls(session, parts, carriage, decision);
  if (speech === 'http') return parts.front.serveHttp(session, carriage);
  if (speech !== 'other') return refuse(session, socket, place, speech.refused, decision.rule);
  if (decision.perRequest) {
    return refuse(session, socket, place, 'only HTTP may pass here, and this is not', decision.rule);
  }
  return carryOpaque(session, parts, carriage, decision, 'tcp');
}

async function listen(
  socket: Socket,
  port: number,
  perRequest: boolean,
  parts: ConnectionParts,
): Promise<Speech | { refused: string }> {
  if (port === 443) return 'tls';
  if (port === 80) return 'http';
  const { firstBytesMs = 250, helloTimeoutMs = 10_000 } = parts;
  const heard = await peek(socket, readSpeech, perRequest ? helloTimeoutMs : firstBytesMs);
  if (heard === 'closed') return { refused: 'ended before it said anything' };
  // A server that speaks first (mail, databases) waits for nobody.
  return heard === 'silent' ? 'other' : heard.speech;
}

function readSpeech(bytes: Buffer): { speech: Speech } | null {
  if (looksLikeTls(bytes)) return bytes.length < 2 ? null : { speech: 'tls' };
  const text = bytes.toString('latin1', 0, maxRequestLineBytes);
  if (requestLine.test(text)) return { speech: 'http' };
  return bytes.length < maxRequestLineBytes && mayBecomeRequest(text) ? null : { speech: 'other' };
}

function mayBecomeRequest(text: string): boolean {
  if (text.includes('\n')) return false;
  return methods.some((method) => text.startsWith(method) || method.startsWith(text));
}

async function carryTls(
  session: LiveSession,
  parts: ConnectionParts,
  carriage: Carriage,
  decision: ConnectionDecision,
): Promise<void> {
  const { socket, host, port } = carriage;
  const place = { protocol: 'tls' as const, host, port };
  const heard = await peek(socket, readHello, parts.helloTimeoutMs ?? 10_000);
  if (heard === 'closed') return refuse(session, socket, place, 'ended before its ClientHello');
  if (heard === 'silent') return refuse(session, socket, place, 'sent no ClientHello in time');
  if (heard.state !== 'hello') return refuse(session, socket, place, heard.reason);
  const { serverName, encrypted } = heard.hello;
  const wanted = /^[\d.]+$/.test(host) ? null : host;
  const named = serverName === null ? null : canonicalName(serverName);
  const isWanted = named === wanted && (serverName === null || named !== null);
  if (!isWanted && !(failpoints.on && sabotaged('sabotage.any-server-name'))) {
    const said = serverName === null ? 'TLS without a server name' : `TLS for ${serverName}`;
    return refuse(session, socket, place, `${said}, on an address of ${host}`);
  }
  if (needsTermination(session.rules, session.credentialsFor(host), host, port)) {
    return parts.front.serveTls(session, carriage);
  }
  // In a tunnel the name that counts would be the encrypted one. Where TLS ends here, nobody decrypts it.
  if (encrypted) return refuse(session, socket, place, 'an encrypted ClientHello (ECH) hides whom it is for');
  return carryOpaque(session, parts, carriage, decision, 'tls');
}

function readHello(bytes: Buffer) {
  const reading = readClientHello(bytes);
  return reading.state === 'more' ? null : reading;
}

async function carryOpaque(
  session: LiveSession,
  parts: ConnectionParts,
  carriage: Carriage,
  decision: ConnectionDecision,
  protocol: 'tcp' | 'tls',
): Promise<void> {
  const { socket, host, port } = carriage;
  carriage.opaque = true;
  const key: DecisionKey = { protocol, host, port, rule: decision.rule, decision: 'allowed', reason: null };
  const outside = await parts.upstream.dial(host, port);
  if (isFailure(outside)) {
    if (outside.failure !== 'private') session.log.record(key);
    else return refuse(session, socket, { protocol, host, port }, outside.message);
    socket.resetAndDestroy();
    return;
  }
  session.log.record(key);
  // While it was dialled, the sandbox may have gone, or the policy have changed.
  const now = decideConnection(session.rules, host, port);
  if (socket.destroyed || session.closed || now.effect === 'deny' || now.perRequest) {
    outside.destroy();
    socket.resetAndDestroy();
    return;
  }
  tunnel(socket, outside, (sent, received) => session.carried(key, sent, received));
}

function refuse(
  session: LiveSession,
  socket: Socket,
  place: Pick<DecisionKey, 'protocol' | 'host' | 'port'>,
  reason: string | null,
  rule: string | null = null,
): void {
  session.log.record({ ...place, rule, decision: 'denied', reason });
  socket.resetAndDestroy();
}
