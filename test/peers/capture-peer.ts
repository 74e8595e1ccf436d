/** A gateway for tests of what is captured: its relay and sockets are the real ones, what it answers is its own. */
import { Capture } from '../../src/gateway/capture.ts';
import { findPrograms } from '../../src/sandbox/host/programs.ts';

const programs = findPrograms();

/** A gateway that knows tickets and says what arrives. */
export class CapturePeer {
  readonly arrived: string[] = [];
  readonly queries: string[] = [];
  readonly sessions = new Set<string>();
  readonly tickets = new Map<string, string>();
  readonly folder: string;
  #capture: Capture | null = null;

  constructor(folder: string) {
    this.folder = folder;
  }

  async start(tickets: Record<string, string>): Promise<void> {
    this.tickets.clear();
    for (const [ticket, session] of Object.entries(tickets)) this.tickets.set(ticket, session);
    this.#capture = await Capture.start({
      netprep: programs.netprep,
      folder: this.folder,
      accept: (ticket) => this.tickets.get(ticket) ?? null,
      onCaptured: ({ session, tcp, udp }) => {
        this.sessions.add(session);
        tcp.on('connection', (socket) => {
          this.arrived.push(`${session} ${socket.localAddress}:${socket.localPort}`);
          socket.on('error', () => {});
          socket.end(`${session} at ${socket.localAddress}:${socket.localPort}\n`);
        });
        udp.on('message', (query, from) => {
          this.queries.push(`${query}`);
          udp.send(answerTo(query), from.port, from.address);
        });
      },
      onReleased: ({ session }) => void this.sessions.delete(session),
    });
  }

  get relayPid(): number | null {
    return this.#capture?.relayPid ?? null;
  }

  async stop(): Promise<void> {
    await this.#capture?.close();
  }
}

/** Of a name server that knows every name, by 198.18.0.1, and of no IPv6 address; or of one that was not asked properly. */
function answerTo(query: Buffer): Buffer | string {
  if (query.length < 17 || query.readUInt16BE(4) !== 1) return `heard ${query}`;
  const end = query.indexOf(0, 12) + 5;
  const isAddress = query.readUInt16BE(end - 4) === 1;
  const head = Buffer.from([
    query[0] as number,
    query[1] as number,
    0x81,
    0x80,
    0,
    1,
    0,
    +isAddress,
    0,
    0,
    0,
    0,
  ]);
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 198, 18, 0, 1]);
  return Buffer.concat([head, query.subarray(12, end), ...(isAddress ? [record] : [])]);
}
