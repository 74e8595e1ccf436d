/**
 * Ends a sandbox's HTTP in the gateway: in clear where it came in clear, and inside TLS with a certificate of the
 * session's own authority, where a rule speaks of requests or a secret is bound to the host (S1, S2).
 */
import { TLSSocket } from 'node:tls';
import type { HttpFront } from './connection.ts';
import type { Exchange, Place } from './exchange.ts';
import { forward } from './forward.ts';
import { openHttp1 } from './http1.ts';
import { serveHttp2 } from './http2.ts';
import { Outbound } from './outbound.ts';
import type { Carriage, LiveSession } from './session.ts';
import type { Upstream } from './upstream.ts';
import { forwardUpgrade } from './websocket.ts';

export type FrontSettings = { handshakeTimeoutMs?: number };

export function openFront(upstream: Upstream, settings: FrontSettings = {}): HttpFront {
  const outbounds = new WeakMap<LiveSession, Outbound>();
  const outboundOf = (session: LiveSession) => {
    const known = outbounds.get(session);
    if (known) return known;
    const made = new Outbound(upstream);
    session.onClose(() => made.close());
    outbounds.set(session, made);
    return made;
  };
  const take = async (exchange: Exchange) => {
    if (admitted(exchange)) await forward(exchange, outboundOf(exchange.session));
  };
  const http1 = openHttp1({
    exchange: take,
    async upgrade(exchange, client, head) {
      if (admitted(exchange)) await forwardUpgrade(exchange, client, head, outboundOf(exchange.session));
    },
  });
  return {
    serveHttp(session, carriage) {
      carriage.socket.allowHalfOpen = false;
      http1.serve(carriage.socket, { session, carriage, secure: false });
    },
    async serveTls(session, carriage) {
      const secured = await handshake(session, carriage, settings.handshakeTimeoutMs ?? 10_000);
      if (!secured) return;
      const place: Place = { session, carriage, secure: true };
      if (secured.alpnProtocol === 'h2') serveHttp2(secured, place, take);
      else http1.serve(secured, place);
    },
  };
}

/** Too many at once end the connection that asks for more: to answer each would be as dear. */
function admitted({ session, carriage, secure, answer }: Exchange): boolean {
  if (session.enter(carriage)) {
    answer.body.once('close', () => {
      carriage.requests -= 1;
    });
    return true;
  }
  const { host, port, socket } = carriage;
  const protocol = secure ? 'https' : 'http';
  const reason = 'too many requests at once';
  session.log.record({ protocol, host, port, rule: null, decision: 'denied', reason });
  socket.resetAndDestroy();
  return false;
}

/** Null: it came to nothing, and the socket is gone. */
async function handshake(
  session: LiveSession,
  { socket, host, port }: Carriage,
  timeoutMs: number,
): Promise<TLSSocket | null> {
  const secureContext = await session.authority.contextFor(host);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // Capture lets a client end its half alone, for tunnels; over HTTP that would leave connections open for ever.
  socket.allowHalfOpen = false;
  const secured = new TLSSocket(socket, {
    isServer: true,
    secureContext,
    ALPNProtocols: ['h2', 'http/1.1'],
  });
  secured.on('error', () => resolve(false)).once('close', () => resolve(false));
  secured.once('secure', () => resolve(true));
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const done = await promise;
  clearTimeout(timer);
  if (done) {
    // Node clears this mark only in its own server, and its HTTP/2 waits for ever on a socket that bears it.
    return Object.assign(secured, { secureConnecting: false });
  }
  const reason = 'the TLS handshake failed: does the client believe the session’s authority?';
  session.log.record({ protocol: 'tls', host, port, rule: null, decision: 'denied', reason });
  secured.destroy();
  return null;
}
