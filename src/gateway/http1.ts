/**
 * HTTP/1.1 from a sandbox: node's strict parser reads it, each request becomes an exchange. What is no HTTP, or can be
 * framed in two ways, is answered 400 and the connection ends (S2).
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { type Answer, type Exchange, type Place, pairs } from './exchange.ts';

export type Http1Front = {
  /** `socket` is the raw one, or the TLS over it. */
  serve(socket: Duplex, place: Place): void;
};

export type Http1Takers = {
  exchange(exchange: Exchange): Promise<void>;
  /** A WebSocket; `head` is what came behind its request. */
  upgrade(exchange: Exchange, client: Duplex, head: Buffer): Promise<void>;
};

const maxHeaderBytes = 64 * 1024;
const keepAliveMs = 75_000;

export function openHttp1(takers: Http1Takers): Http1Front {
  const places = new WeakMap<Duplex, Place>();
  const server: Server = createServer({
    maxHeaderSize: maxHeaderBytes,
    insecureHTTPParser: false,
    requireHostHeader: true,
    keepAliveTimeout: keepAliveMs,
    // Uploads and answers last as long as they last; caps bound how many there are.
    requestTimeout: 0,
    noDelay: true,
    // h2c and the like would be another protocol behind a decided request.
    shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === 'websocket',
  });
  server.maxHeadersCount = 256;
  const take = (request: IncomingMessage, response: ServerResponse) => {
    const place = places.get(request.socket);
    if (!place) return void request.socket.destroy();
    response.sendDate = false;
    return void takers.exchange(exchangeOf(request, place, answerOf(response)));
  };
  server.on('request', take).on('checkContinue', take);
  server.on('upgrade', (request: IncomingMessage, client: Duplex, head: Buffer) => {
    const place = places.get(client);
    if (!place) return client.destroy();
    const response = new ServerResponse(request);
    response.sendDate = false;
    response.shouldKeepAlive = false;
    response.assignSocket(request.socket);
    response.on('finish', () => client.end());
    client.on('error', () => undefined);
    return void takers.upgrade(exchangeOf(request, place, answerOf(response)), client, head);
  });
  server.on('connect', (_, client: Duplex) => {
    client.end('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  server.on('clientError', (error: NodeJS.ErrnoException, client: Duplex) => {
    const place = places.get(client);
    if (place && error.code?.startsWith('HPE_')) {
      const { host, port } = place.carriage;
      const protocol = place.secure ? 'https' : 'http';
      const reason = 'bytes that are no well-formed HTTP/1.1';
      place.session.log.record({ protocol, host, port, rule: null, decision: 'denied', reason });
    }
    if (!client.writable) return client.destroy();
    return client.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
  });
  return {
    serve(socket, place) {
      places.set(socket, place);
      server.emit('connection', socket);
      // Bytes that were looked at before and put back wait in a stream that was paused for it.
      socket.resume();
    },
  };
}

function exchangeOf(request: IncomingMessage, place: Place, answer: Answer): Exchange {
  const hasBody =
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0;
  return {
    ...place,
    method: request.method ?? '',
    target: request.url ?? '',
    headers: pairs(request.rawHeaders),
    body: request,
    hasBody,
    trailers: () => pairs(request.rawTrailers),
    answer,
  };
}

function answerOf(response: ServerResponse): Answer {
  return {
    goOn: () => response.writeContinue(),
    head: (status, headers) => {
      response.writeHead(status, headers.flat());
      // An event stream's head must not wait for its first event.
      response.flushHeaders();
    },
    body: response,
    trailers: (headers) => response.addTrailers(headers),
    headSent: () => response.headersSent,
    abort: () => void response.destroy(),
  };
}
