/**
 * HTTP for model calls, as a `fetch` that every provider SDK accepts.
 *
 * Why not the platform's fetch: it gives up by itself after 300 s without a header or a body byte, which is shorter
 * than hard reasoning takes, and cannot be told otherwise without another dependency; it copies bodies; it follows
 * redirects, and with them the key (S1). This one keeps connections alive, sends an exact length, goes through
 * `HTTPS_PROXY` where one is set, and leaves time limits to `deadlines.ts`. It never retries and never redirects.
 */
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';

export type TransportRequest = {
  url: string;
  method: string;
  headers: Record<string, string>;
  body: readonly Uint8Array[];
  signal: AbortSignal;
  /** Called once when a usable connection (TLS included) is there; at once where one is kept alive. */
  onConnected: () => void;
  /** Called with every piece of the body as it comes, and with null at its end. What it throws fails the body. */
  onChunk: (chunk: Uint8Array | null) => void;
};

/** Rejects when the network fails or `signal` aborts; any HTTP status is an answer. */
export type Transport = (request: TransportRequest) => Promise<Response>;

/** Idle connections are closed after this, before the load balancers that we know do it and lose our next request. */
const idleConnectionMs = 50_000;

export function createTransport(): Transport {
  const options = { keepAlive: true, timeout: idleConnectionMs, proxyEnv: process.env };
  const agents = { 'http:': new HttpAgent(options), 'https:': new HttpsAgent(options) };

  return (request) =>
    new Promise((resolve, reject) => {
      const url = new URL(request.url);
      const isTls = url.protocol === 'https:';
      const { method, signal } = request;
      const bodyBytes = request.body.reduce((sum, piece) => sum + piece.length, 0);
      const headers = { ...request.headers, 'content-length': String(bodyBytes) };
      const agent = isTls ? agents['https:'] : agents['http:'];
      const call = (isTls ? httpsRequest : httpRequest)(url, { method, headers, signal, agent });
      // The agent's timeout is for idle connections; a call in flight has its own deadlines.
      call.setTimeout(0);
      watchConnection(call, isTls, request.onConnected);
      call.once('error', reject);
      call.once('response', (message) => {
        call.off('error', reject);
        // After the headers an error reaches the reader through the body.
        call.on('error', () => {});
        resolve(toResponse(message, request.onChunk));
      });
      // Corked until the end: head and pieces leave together, and none of them is copied.
      call.cork();
      for (const piece of request.body) call.write(piece);
      call.end();
    });
}

function watchConnection(call: ClientRequest, isTls: boolean, onConnected: () => void): void {
  call.once('socket', (socket: Socket) => {
    if (call.reusedSocket) onConnected();
    else socket.once(isTls ? 'secureConnect' : 'connect', onConnected);
  });
  // Through a proxy the socket is handed over when it is connected already; that bytes left says it as well.
  call.once('finish', onConnected);
}

/** A `Response` over the message; cancelling its body destroys the connection, so that the peer sees us leave. */
function toResponse(message: IncomingMessage, onChunk: TransportRequest['onChunk']): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) {
    for (const one of Array.isArray(value) ? value : [value ?? '']) headers.append(name, one);
  }
  const status = message.statusCode ?? 0;
  const isBodyless = status === 204 || status === 205 || status === 304;
  if (isBodyless) message.resume();
  return new Response(isBodyless ? null : toStream(message, onChunk), { status, headers });
}

function toStream(
  message: IncomingMessage,
  onChunk: TransportRequest['onChunk'],
): ReadableStream<Uint8Array> {
  let isOver = false;
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const fail = (error: unknown): void => {
          if (isOver) return;
          isOver = true;
          controller.error(error);
        };
        const see = (chunk: Uint8Array | null): boolean => {
          try {
            onChunk(chunk);
            return true;
          } catch (error) {
            fail(error);
            message.destroy();
            return false;
          }
        };
        message.on('data', (chunk: Buffer) => {
          const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
          if (isOver || !see(bytes)) return;
          controller.enqueue(bytes);
          if ((controller.desiredSize ?? 0) <= 0) message.pause();
        });
        message.once('end', () => {
          if (isOver || !see(null)) return;
          isOver = true;
          controller.close();
        });
        message.once('error', fail);
        message.once('close', () => fail(new Error('the connection closed before the end of the response')));
      },
      pull() {
        message.resume();
      },
      cancel() {
        isOver = true;
        message.destroy();
      },
    },
    { highWaterMark: 64 },
  );
}

/** Uses a given `fetch` (tests, an egress of the customer) instead. It cannot tell when it connected. */
export function transportOf(fetchLike: typeof fetch): Transport {
  return async (request) => {
    const response = await fetchLike(request.url, {
      method: request.method,
      headers: request.headers,
      body: Buffer.concat(request.body),
      signal: request.signal,
      redirect: 'error',
    });
    if (response.body === null) return response;
    const body = response.body.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          request.onChunk(chunk);
          controller.enqueue(chunk);
        },
        flush: () => request.onChunk(null),
      }),
    );
    return new Response(body, { status: response.status, headers: response.headers });
  };
}
