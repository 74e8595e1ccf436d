/**
 * A network between a client and a server that misbehaves on request: it cuts connections, swallows everything without
 * a word, or loses the reply to a request that the server has carried out.
 *
 * Connections are told apart by what their first bytes contain (Postgres clients give their name there).
 */
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';

type Link = { near: Socket; far: Socket; greeting: string; isLosingReply: boolean };

/** The last message of every reply of Postgres: ready for query, idle. */
const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

export class TcpProxy {
  readonly #server: Server;
  readonly #links = new Set<Link>();
  #target: { host: string; port: number };
  /** Of connections whose greeting contains it nothing goes through any more, in either direction. */
  #swallowed: string | null = null;
  /** The reply to the next request that contains it is lost, and with it the connection. */
  #losing: string | null = null;
  /** How many replies were lost. */
  lostReplies = 0;

  private constructor(target: { host: string; port: number }) {
    this.#target = target;
    this.#server = createServer((near) => this.#accept(near));
  }

  static async start(target: { host: string; port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: (this.#server.address() as AddressInfo).port };
  }

  /** Connections from now on go there: as where the address of a database moves to another server. */
  point(target: { host: string; port: number }): void {
    this.#target = target;
  }

  /** Ends connections at once; how many. */
  cut(greeting = ''): number {
    const cut = [...this.#links].filter((link) => link.greeting.includes(greeting));
    for (const link of cut) this.#end(link);
    return cut.length;
  }

  /** From now on nothing passes, and no connection ends: as when packets are dropped. */
  swallow(greeting = ''): void {
    this.#swallowed = greeting;
  }

  /** What was swallowed stays lost; the connections it belonged to end. */
  heal(): void {
    const greeting = this.#swallowed ?? '';
    this.#swallowed = null;
    this.cut(greeting);
  }

  /** The server does what is asked, and the client never hears of it. */
  loseReplyTo(request: string): void {
    this.#losing = request;
  }

  async stop(): Promise<void> {
    for (const link of this.#links) this.#end(link);
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(near: Socket): void {
    const far = connect(this.#target);
    const link: Link = { near, far, greeting: '', isLosingReply: false };
    this.#links.add(link);
    for (const socket of [near, far]) {
      // An end is a packet too.
      const ended = (): void => {
        if (!this.#isSwallowed(link)) this.#end(link);
      };
      socket.on('error', ended);
      socket.on('close', ended);
    }
    near.on('data', (chunk: Buffer) => {
      if (link.greeting === '') link.greeting = chunk.toString('latin1');
      if (this.#isSwallowed(link)) return;
      if (this.#losing !== null && chunk.includes(this.#losing)) {
        this.#losing = null;
        link.isLosingReply = true;
      }
      far.write(chunk);
    });
    far.on('data', (chunk: Buffer) => {
      if (this.#isSwallowed(link)) return;
      if (!link.isLosingReply) near.write(chunk);
      else if (chunk.includes(readyForQuery)) {
        this.lostReplies += 1;
        this.#end(link);
      }
    });
  }

  #isSwallowed(link: Link): boolean {
    return this.#swallowed !== null && link.greeting.includes(this.#swallowed);
  }

  #end(link: Link): void {
    this.#links.delete(link);
    link.near.destroy();
    link.far.destroy();
  }
}
