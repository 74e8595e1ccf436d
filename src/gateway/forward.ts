/**
 * Judges one request and sends it on (S1, S2, S4): by rule, with its secrets put in, and the answer with them taken
 * out. Bodies stream both ways at the pace of the slower side; nothing is kept as a whole.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import { type Brokered, putIn } from './broker.ts';
import type { DecisionKey } from './decisions.ts';
import {
  attempt,
  type Exchange,
  endToEnd,
  type HeaderList,
  namesPlace,
  valuesOf,
  without,
} from './exchange.ts';
import { DialError, type Outbound } from './outbound.ts';
import { type Redactor, redactor } from './redact.ts';
import { relayAnswer } from './relay.ts';
import { decide, speaksOfMethods } from './rules.ts';

type Refusal = { status: number; reason: string; rule: string | null };

/** What goes out, and what its answer is cleaned of. */
export type Outgoing = {
  headers: HeaderList;
  redact: Redactor;
  key: DecisionKey;
  /** By the policy of now. */
  isDenied(): boolean;
};

const methodToken = /^[A-Z][A-Z-]{0,31}$/;
const targetForm = /^\/[\x21-\xff]*$/;
const overrides = ['x-http-method-override', 'x-http-method', 'x-method-override'];

/** Never rejects: every ending is an answer, or a connection broken off. */
export async function forward(exchange: Exchange, outbound: Outbound): Promise<void> {
  const outgoing = await judge(exchange);
  if (outgoing) attempt(exchange, () => send(exchange, outbound, outgoing, true));
}

/** Null where it has been answered already: refused. */
export async function judge(exchange: Exchange): Promise<Outgoing | null> {
  const { session, carriage, method, target } = exchange;
  const { host, port, socket } = carriage;
  const place = { protocol: exchange.secure ? ('https' as const) : ('http' as const), host, port };
  const detail = { method, path: target.split('?', 1)[0] ?? '' };
  const malformed = formProblem(exchange) ?? fullProblem(exchange);
  if (malformed) {
    session.log.record({ ...place, rule: null, decision: 'denied', reason: malformed.reason }, detail);
    refuse(exchange, malformed);
    return null;
  }
  const evaluate = () => decide(session.rules, { host, port, request: { method, target } });
  const decision = await session.settle(place, evaluate, socket, detail);
  const { rule } = decision;
  if (decision.effect !== 'allow') {
    const reason = decision.reason ?? 'not allowed';
    session.log.record({ ...place, rule, decision: 'denied', reason }, detail);
    refuse(exchange, { status: 403, reason, rule });
    return null;
  }
  const bound = session.credentialsFor(host);
  const cleaned = outgoingHeaders(exchange, bound.length > 0);
  const none: Brokered = { headers: cleaned, used: [], injected: [] };
  const isSecure = exchange.secure || (failpoints.on && sabotaged('sabotage.secret-in-clear'));
  const brokered = isSecure ? putIn(cleaned, bound) : none;
  const key: DecisionKey = { ...place, rule, decision: 'allowed', reason: null };
  session.log.record(key, { ...detail, credentials: brokered.used });
  const isDenied = () => evaluate().effect === 'deny';
  return { headers: brokered.headers, redact: redactor(bound, brokered.injected), key, isDenied };
}

function formProblem(exchange: Exchange): Refusal | null {
  const { method, target, headers, session, carriage } = exchange;
  const wrong = (status: number, reason: string): Refusal => ({ status, reason, rule: null });
  const hosts = valuesOf(headers, 'host');
  const named = hosts[0] ?? '';
  if (hosts.length !== 1) return wrong(400, 'a request needs one Host');
  // Without this one allowed host would be the door to its neighbours on the same address.
  if (!namesPlace(named, exchange) && !(failpoints.on && sabotaged('sabotage.any-host')))
    return wrong(421, `a request for another host than ${carriage.host}`);
  if (!methodToken.test(method) || method === 'CONNECT') return wrong(405, 'a method that is not passed on');
  if (!targetForm.test(target) && !(method === 'OPTIONS' && target === '*')) {
    return wrong(400, 'a request target that is no path');
  }
  const encodings = valuesOf(headers, 'transfer-encoding');
  const lengths = valuesOf(headers, 'content-length');
  const framedTwice = encodings.length + lengths.length > 1;
  if (framedTwice || encodings.some((one) => one.trim().toLowerCase() !== 'chunked')) {
    return wrong(400, 'a body whose length can be read in two ways');
  }
  const renamed = headers.some(([name]) => overrides.includes(name.toLowerCase()));
  if (renamed && speaksOfMethods(session.rules, carriage.host, carriage.port)) {
    return wrong(403, 'a header that renames the method, where rules are about methods');
  }
  return null;
}

function fullProblem({ session }: Exchange): Refusal | null {
  if (!session.log.backlogged && !session.closed) return null;
  return { status: 503, reason: 'too many decisions wait to be read', rule: null };
}

function outgoingHeaders(exchange: Exchange, guarded: boolean): HeaderList {
  const { headers, method, hasBody } = exchange;
  let list = without(endToEnd(headers), 'host');
  list.unshift(['Host', valuesOf(headers, 'host')[0] ?? '']);
  if (valuesOf(headers, 'te').some((value) => /(?:^|,)\s*trailers\s*(?:,|$)/i.test(value))) {
    list.push(['TE', 'trailers']);
  }
  if (guarded) {
    // A value inside a compressed body is not found.
    list = without(list, 'accept-encoding');
    list.push(['Accept-Encoding', 'identity']);
  }
  const sized = valuesOf(list, 'content-length').length > 0;
  if (hasBody && !sized) {
    list.push(['Transfer-Encoding', 'chunked']);
    for (const value of valuesOf(headers, 'trailer')) list.push(['Trailer', value]);
  }
  if (!hasBody && !sized && ['POST', 'PUT', 'PATCH'].includes(method)) list.push(['Content-Length', '0']);
  return list;
}

function send(exchange: Exchange, outbound: Outbound, outgoing: Outgoing, mayRetry: boolean): void {
  const { answer, body, session, method } = exchange;
  // Given up while somebody was asked.
  if (answer.body.destroyed) return;
  const request = outbound.request(exchange, outgoing.headers);
  const safe = mayRetry && !exchange.hasBody && ['GET', 'HEAD', 'OPTIONS'].includes(method);
  request.on('continue', () => attempt(exchange, () => answer.goOn()));
  request.on('response', (response: IncomingMessage) =>
    attempt(exchange, () => relayAnswer(exchange, response, outgoing)),
  );
  request.on('error', (error: NodeJS.ErrnoException) => {
    // The upstream closed a connection that was kept for later; it has not seen this request.
    if (safe && request.reusedSocket && error.code === 'ECONNRESET' && !answer.headSent()) {
      attempt(exchange, () => send(exchange, outbound, outgoing, false));
      return;
    }
    attempt(exchange, () => fail(exchange, outgoing, error));
  });
  const unwatch = session.onPolicy(() => {
    if (outgoing.isDenied()) answer.abort();
  });
  answer.body.once('close', () => {
    unwatch();
    if (!answer.body.writableFinished) request.destroy();
  });
  session.carried(outgoing.key, headBytes(outgoing.headers), 0);
  if (exchange.hasBody) pour(exchange, request, outgoing.key);
  else request.end();
  body.on('error', () => request.destroy());
}

function pour(exchange: Exchange, request: ClientRequest, key: DecisionKey): void {
  const { body, session } = exchange;
  body.on('data', (chunk: Buffer) => session.carried(key, chunk.length, 0));
  body.on('end', () => {
    attempt(exchange, () => {
      const trailers = endToEnd(exchange.trailers());
      if (trailers.length > 0) request.addTrailers(trailers);
      request.end();
    });
  });
  body.on('aborted', () => request.destroy());
  // A long upload's head goes out before its first byte comes in.
  request.flushHeaders();
  body.pipe(request, { end: false });
}

function fail(exchange: Exchange, { key }: Outgoing, error: Error): void {
  const { answer, session } = exchange;
  const failure = error instanceof DialError ? error.failure : null;
  // An upstream may answer an upload early and close: its answer is whole, though the upload is not.
  if (answer.body.writableEnded) return;
  if (answer.headSent()) answer.abort();
  else if (failure?.failure === 'private') {
    session.log.record({ ...key, rule: null, decision: 'denied', reason: failure.message });
    refuse(exchange, { status: 403, reason: failure.message, rule: null });
  } else {
    const reason = failure?.message ?? `${exchange.carriage.host} broke the connection off`;
    refuse(exchange, { status: 502, reason, rule: null });
  }
}

/** Says why, in words and in data; nothing of the request is repeated. */
export function refuse(exchange: Exchange, { status, reason, rule }: Refusal): void {
  const { answer, carriage } = exchange;
  if (answer.headSent() || answer.body.destroyed) {
    answer.abort();
    return;
  }
  const type = status === 502 ? 'gateway_upstream_failed' : 'network_policy';
  const { host, port } = carriage;
  const message = `The sandbox's gateway: ${reason}.`;
  const text = `${JSON.stringify({ error: { type, message, rule, host, port } })}\n`;
  answer.head(status, [
    ['Content-Type', 'application/json'],
    ['Content-Length', String(Buffer.byteLength(text))],
  ]);
  answer.body.end(exchange.method === 'HEAD' ? undefined : text);
  exchange.body.resume();
}

export function headBytes(headers: HeaderList): number {
  return headers.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 32);
}
