/**
 * A gateway with a world around it, all on loopback: upstreams with certificates of an authority the gateway is told to
 * believe, names pinned to them, and doors that stand in for a sandbox's captured sockets (destination given by hand).
 */
import { createServer, type Server, type Socket } from 'node:net';
import { type TLSSocket, TLSSocket as TlsSocket, connect as tlsConnect } from 'node:tls';
import { type Authority, createAuthority } from '../../src/gateway/authority.ts';
import type { HttpFront } from '../../src/gateway/connection.ts';
import type { NetworkDecision } from '../../src/gateway/gateway.ts';
import { type Doors, type LocalGateway, openLocalGateway } from '../../src/gateway/local-gateway.ts';
import {
  type BoundCredential,
  defaultCaps,
  type NetworkPolicy,
  type NetworkRule,
} from '../../src/gateway/policy.ts';
import { openUpstream, type UpstreamSettings } from '../../src/gateway/upstream.ts';

export function rule(given: Partial<NetworkRule> & Pick<NetworkRule, 'hosts'>): NetworkRule {
  const id = `rule:${given.effect ?? 'allow'}:${given.hosts.join(',')}`;
  return { id, effect: 'allow', ports: null, methods: null, paths: null, ...given };
}

export function policy(rules: NetworkRule[], rest: Partial<NetworkPolicy> = {}): NetworkPolicy {
  return { rules, otherwise: 'deny', caps: defaultCaps, ...rest };
}

export type WorldSettings = {
  upstream?: UpstreamSettings;
  front?: (upstream: ReturnType<typeof openUpstream>) => HttpFront;
  askHoldMs?: number;
  windowMs?: number;
  maxWaiting?: number;
  helloTimeoutMs?: number;
  now?: () => number;
};

const noFront: HttpFront = {
  serveHttp: (_, { socket }) => socket.resetAndDestroy(),
  serveTls: (_, { socket }) => Promise.resolve(void socket.resetAndDestroy()),
};

export class World {
  readonly gateway: LocalGateway;
  readonly trusted: Authority;
  readonly ticket = 'a-ticket-of-this-session-alone';
  #fence = 1;
  #read = 0;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();

  private constructor(gateway: LocalGateway, trusted: Authority) {
    this.gateway = gateway;
    this.trusted = trusted;
  }

  static async open(settings: WorldSettings = {}, pins: string[] = [], before?: World): Promise<World> {
    const trusted = before?.trusted ?? (await createAuthority('the world'));
    const upstream = openUpstream({
      dialTimeoutMs: 2_000,
      ...settings.upstream,
      pins,
      extraAuthorities: [trusted.pem],
    });
    const { front = () => noFront, upstream: _, ...rest } = settings;
    const gateway = openLocalGateway({ windowMs: 20, ...rest, upstream, front: front(upstream) });
    return new World(gateway, trusted);
  }

  /** Opens the session, or replaces what it may. Gives its authority's PEM. */
  async allow(given: NetworkPolicy, credentials: BoundCredential[] = []): Promise<string> {
    this.#fence += 1;
    const opened = await this.gateway.openSession({
      session: 'ses_1',
      fence: this.#fence,
      policy: given,
      credentials,
      ticket: this.ticket,
      ticketIdleMs: 60_000,
      ticketLifeMs: 600_000,
    });
    if ('refused' in opened) throw new Error(opened.message);
    return opened.authorityPem;
  }

  get doors(): Doors {
    const doors = this.gateway.admit(this.ticket);
    if (!doors) throw new Error('the ticket opens nothing');
    return doors;
  }

  /** The fake address of a name, over the wire format; null where it was refused. */
  addressOf(name: string): string | null {
    const answer = this.doors.dns(queryFor(name));
    return answer && answer.readUInt16BE(6) === 1 ? [...answer.subarray(-4)].join('.') : null;
  }

  /** A port on loopback whose connections are as if the sandbox had dialled `address`:`port`. */
  async door(address: string, port: number): Promise<number> {
    const { doors } = this;
    return this.listen(
      createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) =>
        doors.connection(socket, { address, port }),
      ),
    );
  }

  /** The same, meaning the very port it listens on: for clients that cannot be sent elsewhere. */
  async doorAtItsPort(address: string): Promise<number> {
    const { doors } = this;
    const options = { allowHalfOpen: true, pauseOnConnect: true };
    return this.listen(
      createServer(options, (socket) => doors.connection(socket, { address, port: socket.localPort ?? 0 })),
    );
  }

  /** The same for a name that must be resolvable. */
  async doorTo(name: string, port: number): Promise<number> {
    const address = this.addressOf(name);
    if (address === null) throw new Error(`${name} was refused`);
    return this.door(address, port);
  }

  async listen(server: Server): Promise<number> {
    this.#servers.push(server);
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return address.port;
  }

  /** The decisions since the last asking, once there are `atLeast` of them. */
  async decisions(atLeast = 1): Promise<NetworkDecision[]> {
    const seen: NetworkDecision[] = [];
    let tries = 0;
    do {
      const waitMs = atLeast === 0 ? 0 : 200;
      const found = await this.gateway.observe({ session: 'ses_1', acknowledge: this.#read, waitMs });
      if ('refused' in found) throw new Error(found.message);
      this.#read = found.at(-1)?.seq ?? this.#read;
      seen.push(...found.map(({ decision }) => decision));
      tries += 1;
    } while (seen.length < atLeast && tries < 50);
    await this.gateway.observe({ session: 'ses_1', acknowledge: this.#read, waitMs: 0 });
    return seen;
  }

  async close(): Promise<void> {
    this.gateway.close();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((done) => server.close(done))));
  }
}

export function queryFor(name: string, type = 1): Buffer {
  const labels = name.split('.').map((one) => Buffer.concat([Buffer.from([one.length]), Buffer.from(one)]));
  const tail = Buffer.from([0, type >>> 8, type & 255, 0, 1]);
  return Buffer.concat([Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), ...labels, tail]);
}

/** TLS to a port of loopback; rejects when it ends before the handshake does. */
export function tlsTo(
  port: number,
  options: { servername?: string; ca: string; ALPNProtocols?: string[] },
): Promise<TLSSocket> {
  return new Promise((done, fail) => {
    const socket = tlsConnect({ host: '127.0.0.1', port, ...options, checkServerIdentity: () => undefined });
    socket.once('secureConnect', () => done(socket)).on('error', fail);
    socket.once('close', () => fail(new Error('closed before the handshake')));
  });
}

/** A server that speaks TLS with a certificate of `authority` for `host`, and hands each connection over. */
export async function tlsServer(
  authority: Authority,
  host: string,
  onConnection: (socket: TLSSocket) => void,
): Promise<Server> {
  const secureContext = await authority.contextFor(host);
  return createServer((raw) => {
    raw.on('error', () => undefined);
    const socket = new TlsSocket(raw, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] });
    socket.on('error', () => undefined);
    socket.once('secure', () => onConnection(socket));
  });
}

/** What node's own client says first for a name. */
export async function clientHello(servername: string): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => {
    socket.once('data', (data) => {
      socket.destroy();
      server.close();
      resolve(data);
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  const port = address && typeof address === 'object' ? address.port : 0;
  const options = { host: '127.0.0.1', port, servername, ALPNProtocols: ['h2', 'http/1.1'] };
  tlsConnect(options).on('error', () => undefined);
  return promise;
}

/** The same hello with extensions put behind its own. */
export function withExtensions(hello: Buffer, ...added: Buffer[]): Buffer {
  const extra = Buffer.concat(added);
  const copy = Buffer.concat([hello, extra]);
  copy.writeUInt16BE(copy.length - 5, 3);
  copy.writeUIntBE(copy.length - 9, 6, 3);
  let at = 5 + 4 + 34;
  at += 1 + (copy[at] ?? 0);
  at += 2 + copy.readUInt16BE(at);
  at += 1 + (copy[at] ?? 0);
  copy.writeUInt16BE(copy.readUInt16BE(at) + extra.length, at);
  return copy;
}

/** An encrypted hello's extension, greased: empty but for its kind. */
export const encryptedHello = Buffer.from([0xfe, 0x0d, 0, 1, 0]);
