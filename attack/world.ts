/**
 * What stands outside of the sandboxes: a world of hosts that the operator has pinned to one port of the loopback, and a
 * service of the host that nobody may reach. Both write down everything that comes.
 */
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { createAuthority } from '../src/gateway/authority.ts';

export const worldNames = ['good.example', 'other.example', 'bound.example', 'api.example'] as const;

const bigBytes = 2_000_000;
const tlsRecord = 0x16;

export class World {
  /** One line a request, or a connection that made none. */
  readonly seen: string[] = [];
  /** The world's authority, which the gateway is told to trust. */
  readonly authorityPem: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(authorityPem: string, server: Server) {
    this.authorityPem = authorityPem;
    this.#server = server;
  }

  static async start(): Promise<World> {
    const authority = await createAuthority('the world');
    const take = (request: IncomingMessage, response: ServerResponse): void => world.#take(request, response);
    const https = createHttpsServer(
      {
        SNICallback: (name, done) => {
          world.seen.push(`tls for ${name}`);
          authority.contextFor(name).then((context) => done(null, context), done);
        },
      },
      take,
    );
    const http = createHttpServer(take);
    const server = createServer((socket) => {
      world.#sockets.add(socket.on('error', () => {}));
      socket.once('close', () => world.#sockets.delete(socket));
      socket.once('data', (first: Buffer) => {
        socket.pause();
        socket.unshift(first);
        if (first[0] !== tlsRecord) world.seen.push(`bytes ${first.toString('latin1')}`);
        (first[0] === tlsRecord ? https : http).emit('connection', socket);
        process.nextTick(() => socket.resume());
      });
    });
    const world: World = new World(authority.pem, server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return world;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => {});
    request.on('end', () => {
      const { method, url = '/', rawHeaders } = request;
      const line = `${method} ${request.headers.host} ${url} ${JSON.stringify(rawHeaders)} ${Buffer.concat(chunks)}`;
      const credentials = Buffer.from(
        /^Basic (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '',
        'base64',
      );
      this.seen.push(`${line} ${credentials}`);
      if (url.startsWith('/big')) response.end(Buffer.alloc(bigBytes));
      else if (url.startsWith('/echo')) echo(response, rawHeaders, line);
      else response.end('hello from the world\n');
    });
  }
}

/** As careless hosts do: in a header, in the body, and in base64. */
function echo(response: ServerResponse, rawHeaders: string[], line: string): void {
  const given = rawHeaders[rawHeaders.findIndex((name) => name.toLowerCase() === 'authorization') + 1] ?? '';
  response.setHeader('x-you-sent', given);
  response.end(`${line}\n${Buffer.from(line).toString('base64')}\n`);
}

/** A service of the host, on its loopback and on an abstract socket. */
export class Forbidden {
  readonly seen: readonly string[];
  readonly port: number;
  readonly #servers: readonly Server[];

  private constructor(seen: readonly string[], servers: readonly Server[], port: number) {
    this.seen = seen;
    this.#servers = servers;
    this.port = port;
  }

  static async start(abstract: string, secret: string): Promise<Forbidden> {
    const seen: string[] = [];
    const listen = async (where: object): Promise<Server> => {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        socket.on('data', (chunk) => seen.push(chunk.toString('latin1')));
        socket.end(`${secret}\n`);
      });
      await new Promise<void>((resolve) => server.listen(where, resolve));
      return server;
    };
    const onLoopback = await listen({ port: 0, host: '127.0.0.1' });
    const servers = [onLoopback, await listen({ path: `\0${abstract}` })];
    return new Forbidden(seen, servers, (onLoopback.address() as AddressInfo).port);
  }

  close(): void {
    for (const server of this.#servers) server.close();
  }
}
