/**
 * An upstream that says back what it was told: in a header, the body, a trailer; compressed, byte by byte, in an encoding
 * nobody knows; and one that stops in the middle.
 */
import { once } from 'node:events';
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/** A request as it arrived. Headers and trailers flat, in their order. */
export type Seen = { method: string; url: string; headers: string[]; body: string; trailers: string[] };

/** Writes every request into `seen`. */
export function echoingUpstream(seen: Seen[]): Server {
  const http = createServer((request, response) => answer(seen, request, response));
  http.on('upgrade', (request: IncomingMessage, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.write(`${request.headers.authorization}\n`);
    socket.on('error', () => undefined).pipe(socket);
  });
  return http;
}

function answer(seen: Seen[], request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', 'http://h');
  const chunks: Buffer[] = [];
  if (url.pathname === '/cut') return void request.socket.destroy();
  if (url.pathname === '/half') {
    response.writeHead(200, { 'content-length': '100' }).write('half of it');
    return void setTimeout(() => request.socket.destroy(), 20);
  }
  if (url.pathname === '/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.flushHeaders();
    return void request.on('data', (chunk) => response.write(chunk)).on('end', () => response.end());
  }
  request
    .on('data', (chunk) => chunks.push(chunk))
    .on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const { method = '', rawHeaders, rawTrailers } = request;
      seen.push({ method, url: request.url ?? '', headers: rawHeaders, body, trailers: rawTrailers });
      const echo = `${rawHeaders.join('\n')}\n${body}`;
      const auth = request.headers.authorization ?? 'none';
      if (method === 'HEAD') return void response.writeHead(200, { 'content-length': '5' }).end();
      if (url.pathname === '/600') return void response.writeHead(600, { 'x-echo': auth }).end(echo);
      if (url.pathname === '/gzip') {
        return void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(echo));
      }
      if (url.pathname === '/odd')
        return void response.writeHead(200, { 'content-encoding': 'rot13' }).end(echo);
      if (url.pathname === '/bytes') {
        response.writeHead(200, { 'x-echo': auth });
        for (const byte of Buffer.from(echo)) response.write(Buffer.from([byte]));
        return void response.end();
      }
      response.writeHead(200, [
        'X-Echo',
        auth,
        'Set-Cookie',
        'a=1',
        'Set-Cookie',
        'b=2',
        'Trailer',
        'X-Sum',
        'Connection',
        'keep-alive',
      ]);
      response.write(echo);
      response.addTrailers({ 'X-Sum': auth });
      return void response.end();
    });
}

export type Reply = {
  status: number;
  headers: Record<string, unknown>;
  body: string;
  trailers: Record<string, unknown>;
};

/** The whole answer. Rejects where it breaks off. */
export async function replyTo(request: ClientRequest): Promise<Reply> {
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response) text += chunk;
  const { statusCode: status = 0, headers, trailers } = response;
  return { status, headers, body: text, trailers };
}
