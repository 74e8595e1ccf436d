/**
 * A WebSocket: its request is judged and brokered like any other, then bytes pass both ways (S1, S2). Values are taken
 * out of what comes back by putting as many asterisks, for a frame's length is written before it.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { CompiledCredential } from './credentials.ts';
import { attempt, type Exchange, endToEnd, pairs, without } from './exchange.ts';
import { judge, type Outgoing, refuse } from './forward.ts';
import type { Outbound } from './outbound.ts';
import { masker } from './redact.ts';
import { cleanHeaders, relayAnswer } from './relay.ts';

export async function forwardUpgrade(
  exchange: Exchange,
  client: Duplex,
  head: Buffer,
  outbound: Outbound,
): Promise<void> {
  // A length that goes out without its bytes would swallow the next request's head, and leave its body to be a request.
  if (exchange.hasBody) return refuseBody(exchange);
  const outgoing = await judge(exchange);
  if (outgoing) attempt(exchange, () => open(exchange, { client, head, outbound, outgoing }));
}

function refuseBody(exchange: Exchange): void {
  const { session, carriage, secure, method, target } = exchange;
  const { host, port } = carriage;
  const reason = 'a request to upgrade that has a body';
  const place = { protocol: secure ? ('https' as const) : ('http' as const), host, port };
  const detail = { method, path: target.split('?', 1)[0] ?? '' };
  session.log.record({ ...place, rule: null, decision: 'denied', reason }, detail);
  refuse(exchange, { status: 400, reason, rule: null });
}

type Opening = { client: Duplex; head: Buffer; outbound: Outbound; outgoing: Outgoing };

function open(exchange: Exchange, { client, head, outbound, outgoing }: Opening): void {
  const { session, carriage, answer } = exchange;
  const bound = session.credentialsFor(carriage.host);
  // Compressed frames cannot be looked into.
  const list = bound.length > 0 ? without(outgoing.headers, 'sec-websocket-extensions') : outgoing.headers;
  const request = outbound.request(exchange, [...list, ['Connection', 'Upgrade'], ['Upgrade', 'websocket']]);
  // Where the upgrade is declined, some servers read nothing more from this connection.
  request.shouldKeepAlive = false;
  request.on('upgrade', (response, far, farHead) => {
    client.write(switchingHead(response, outgoing));
    if (farHead.length > 0) far.unshift(farHead);
    if (head.length > 0) far.write(head);
    join(exchange, outgoing, { client, far, bound });
  });
  request.on('response', (response) => attempt(exchange, () => relayAnswer(exchange, response, outgoing)));
  request.on('error', () => {
    if (answer.headSent() || client.destroyed) return void client.destroy();
    return refuse(exchange, { status: 502, reason: `${carriage.host} broke the connection off`, rule: null });
  });
  const unwatch = session.onPolicy(() => {
    if (outgoing.isDenied()) client.destroy();
  });
  client.once('close', () => {
    unwatch();
    request.destroy();
  });
  request.end();
}

function switchingHead(response: IncomingMessage, { redact }: Outgoing): string {
  const headers = cleanHeaders(endToEnd(pairs(response.rawHeaders)), redact);
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  return `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${lines}\r\n`;
}

type Ends = { client: Duplex; far: Duplex; bound: readonly CompiledCredential[] };

function join({ session }: Exchange, { key }: Outgoing, { client, far, bound }: Ends): void {
  const masked = masker(bound);
  client.on('data', (chunk: Buffer) => session.carried(key, chunk.length, 0));
  far.on('data', (chunk: Buffer) => session.carried(key, 0, chunk.length));
  const inward = masked.idle ? far : far.pipe(masked.stream());
  inward.pipe(client);
  client.pipe(far);
  far.once('error', () => client.destroy()).once('close', () => client.end());
  client.once('close', () => far.destroy());
}
