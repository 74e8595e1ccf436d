/**
 * A TCP load balancer for tests: each connection goes to the first backend, in turn, that takes it. It knows nothing of
 * HTTP, as the simplest ones in front of a fleet.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

export class LoadBalancer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #backends: URL[] = [];
  #turn = 0;

  private constructor() {
    this.#server = createServer((client) => this.#pass(client, 0));
  }

  static async start(): Promise<LoadBalancer> {
    const balancer = new LoadBalancer();
    await new Promise<void>((resolve) => balancer.#server.listen(0, '127.0.0.1', resolve));
    return balancer;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  }

  setBackends(urls: string[]): void {
    this.#backends = urls.map((url) => new URL(url));
  }

  #pass(client: Socket, tries: number): void {
    const to = this.#backends[this.#turn++ % Math.max(1, this.#backends.length)];
    if (to === undefined || tries > this.#backends.length) {
      client.destroy();
      return;
    }
    const backend = connect(Number(to.port), to.hostname);
    this.#sockets.add(client).add(backend);
    client.on('error', () => backend.destroy());
    let isConnected = false;
    backend.once('connect', () => {
      isConnected = true;
      client.pipe(backend).pipe(client);
    });
    backend.on('error', () => (isConnected ? client.destroy() : this.#pass(client, tries + 1)));
    for (const socket of [client, backend]) socket.on('close', () => this.#sockets.delete(socket));
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
