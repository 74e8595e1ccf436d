/**
 * A pooler of Postgres connections in transaction mode, as it stands in between in many houses: each statement or transaction
 * of a client runs on whichever server connection is free, the one that was freed last first. Only for what a test sends:
 * simple statements, one at a time, no TLS.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** The last message of a reply whose session is in no transaction. */
const readyAndIdle = Buffer.from([0x5a, 0, 0, 0, 5, 0x49]);

export class TransactionPooler {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #free: Socket[] = [];
  readonly #port: number;

  private constructor(serverPort: number) {
    this.#port = serverPort;
    this.#server = createServer((client) => this.#accept(client));
  }

  static async start(serverPort: number): Promise<TransactionPooler> {
    const pooler = new TransactionPooler(serverPort);
    await new Promise<void>((resolve) => pooler.#server.listen(0, '127.0.0.1', resolve));
    return pooler;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(client: Socket): void {
    this.#keep(client);
    // Its greeting opens a server connection, which then belongs to everybody.
    let mine: Socket | null = this.#keep(connect(this.#port, '127.0.0.1'));
    const hear = (server: Socket): void => {
      server.removeAllListeners('data');
      server.on('data', (bytes: Buffer) => {
        client.write(bytes);
        if (!bytes.subarray(-readyAndIdle.length).equals(readyAndIdle)) return;
        this.#free.push(server);
        mine = null;
      });
    };
    hear(mine);
    client.on('data', (bytes: Buffer) => {
      // Its goodbye is not the server connection's.
      if (bytes[0] === 0x58 && mine === null) return;
      if (mine === null) {
        mine = this.#free.pop() ?? null;
        if (mine === null) {
          client.destroy();
          return;
        }
        hear(mine);
      }
      mine.write(bytes);
    });
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    return socket;
  }
}
