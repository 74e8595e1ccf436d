/**
 * The gateway of one process: the port's words over live sessions, and the doors by which sandboxes' traffic comes in.
 * A sandbox is known by its ticket alone; a ticket opens one session, while it is neither old nor forgotten (S2, S4).
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import type { Socket } from 'node:net';
import { type ConnectionParts, carry, type Destination } from './connection.ts';
import { DecisionLog } from './decisions.ts';
import { answerDns } from './dns.ts';
import type {
  Gateway,
  GatewayObservation,
  GatewayOpened,
  GatewayRefusal,
  GatewaySession,
} from './gateway.ts';
import { isProblem } from './pattern.ts';
import { LiveSession, type SessionSettings } from './session.ts';

/** One sandbox's traffic. Both check the ticket's age each time. */
export type Doors = {
  session: string;
  /** Takes the socket over; `destination` is where it meant to go. */
  connection(socket: Socket, destination: Destination): void;
  /** The answer to a DNS packet, or null: send none. */
  dns(packet: Buffer): Buffer | null;
};

export type LocalGateway = Gateway & {
  /** What a ticket opens, or null where it opens nothing (any more). */
  admit(ticket: string): Doors | null;
  /** Forgets the secrets of sessions whose ticket has died of age or disuse, and ends what they have open. */
  sweep(): void;
  close(): void;
};

export type LocalGatewaySettings = SessionSettings &
  ConnectionParts & {
    now?: () => number;
    /** The operator's authorities (PEM): what is tunnelled is verified in the sandbox, which must know them, too. */
    operatorAuthorities?: string;
  };

type Ticket = { hash: Buffer; diesAtMs: number };

type Entry = {
  live: LiveSession;
  fence: number;
  /** Newest first. Whoever opens it under the same fence, as another engine may to show a diff, takes nobody's away. */
  tickets: [Ticket, ...Ticket[]];
  ticketIdleMs: number;
  usedAtMs: number;
};

const maxRemembered = 4_096;
const maxTickets = 8;

class GatewayOfOneProcess implements LocalGateway {
  readonly #settings: LocalGatewaySettings;
  readonly #generation = randomUUID();
  readonly #entries = new Map<string, Entry>();
  /** Of closed sessions: the fence, so that nobody late opens them again, and what has not been read yet. */
  readonly #closed = new Map<string, { fence: number; log: DecisionLog }>();
  readonly #opening = new Map<string, Promise<unknown>>();

  constructor(settings: LocalGatewaySettings) {
    this.#settings = settings;
  }

  generation(): Promise<string> {
    return Promise.resolve(this.#generation);
  }

  /** One at a time for each session, in the order they came. */
  async openSession(session: GatewaySession): Promise<GatewayOpened | GatewayRefusal> {
    const before = this.#opening.get(session.session) ?? Promise.resolve();
    const opened = before.then(() => this.#open(session));
    const settled = opened.catch(() => undefined);
    this.#opening.set(session.session, settled);
    void settled.then(() => {
      if (this.#opening.get(session.session) === settled) this.#opening.delete(session.session);
    });
    return opened;
  }

  async #open(session: GatewaySession): Promise<GatewayOpened | GatewayRefusal> {
    const highest = this.#highestFence(session.session);
    if (session.fence < highest) return fenced(highest);
    if (session.ticket.length < 16) {
      return { refused: 'invalid', message: 'ticket: is shorter than 16 characters' };
    }
    const known = this.#entries.get(session.session)?.live;
    const log = this.#closed.get(session.session)?.log;
    const live = known ?? (await LiveSession.open(session, this.#settings, log));
    const problem = isProblem(live) ? live : (known?.replace(session) ?? null);
    if (problem) return { refused: 'invalid', message: `${problem.field}: ${problem.problem}` };
    if (isProblem(live)) return { refused: 'invalid', message: 'no session' };
    // Minting took a moment, in which the session may have been closed by a later owner.
    const highestNow = this.#highestFence(session.session);
    if (session.fence < highestNow) {
      if (!known) live.close();
      return fenced(highestNow);
    }
    const nowMs = this.#now();
    const before = this.#entries.get(session.session);
    const others = before?.fence === session.fence ? before.tickets.slice(0, maxTickets - 1) : [];
    const ticket = { hash: hashOf(session.ticket), diesAtMs: nowMs + session.ticketLifeMs };
    this.#entries.set(session.session, {
      live,
      fence: session.fence,
      tickets: [ticket, ...others],
      ticketIdleMs: session.ticketIdleMs,
      usedAtMs: nowMs,
    });
    this.#closed.delete(session.session);
    return { authorityPem: `${live.authority.pem}${this.#settings.operatorAuthorities ?? ''}` };
  }

  closeSession(request: { session: string; fence: number }): Promise<Record<string, never> | GatewayRefusal> {
    const highest = this.#highestFence(request.session);
    if (request.fence < highest) return Promise.resolve(fenced(highest));
    const live = this.#entries.get(request.session)?.live;
    const log = live?.log ?? this.#closed.get(request.session)?.log ?? new DecisionLog(this.#settings);
    live?.close();
    this.#entries.delete(request.session);
    this.#closed.delete(request.session);
    this.#closed.set(request.session, { fence: request.fence, log });
    const oldest = this.#closed.keys().next();
    if (this.#closed.size > maxRemembered && !oldest.done) this.#closed.delete(oldest.value);
    return Promise.resolve({});
  }

  async observe(request: {
    session: string;
    acknowledge: number;
    waitMs: number;
  }): Promise<GatewayObservation[] | GatewayRefusal> {
    const { session, acknowledge, waitMs } = request;
    const live = this.#entries.get(session)?.live;
    const log = live?.log ?? this.#closed.get(session)?.log;
    const found = (await log?.observe(acknowledge, live ? waitMs : 0)) ?? [];
    // Whoever waits for more of a session that is gone would ask for ever.
    if (!live && found.length === 0)
      return { refused: 'unknown_session', message: `${session} is not open here` };
    return found.map((one) => ({ session, ...one }));
  }

  admit(ticket: string): Doors | null {
    const hash = hashOf(ticket);
    const entry = [...this.#entries.values()].find((one) => ticketOf(one, hash));
    if (!entry || !this.#use(entry, hash)) return null;
    const { live } = entry;
    // The entry is looked up anew: a session with another owner has other tickets, and this one is then worth nothing.
    const good = () => {
      const now = this.#entries.get(live.id);
      return now !== undefined && now.live === live && this.#use(now, hash);
    };
    return {
      session: live.id,
      connection: (socket, destination) => {
        if (good()) void carry(live, this.#settings, socket, destination);
        else socket.on('error', () => undefined).resetAndDestroy();
      },
      dns: (packet) => answerDns(packet, (name) => (good() ? live.resolve(name) : null)),
    };
  }

  sweep(): void {
    const nowMs = this.#now();
    for (const { live, fence, tickets, ticketIdleMs, usedAtMs } of [...this.#entries.values()])
      if (nowMs >= tickets[0].diesAtMs || nowMs - usedAtMs >= ticketIdleMs)
        void this.closeSession({ session: live.id, fence });
  }

  close(): void {
    for (const { live } of this.#entries.values()) live.close();
    this.#entries.clear();
  }

  #use(entry: Entry, hash: Buffer): boolean {
    const nowMs = this.#now();
    const good =
      nowMs < (ticketOf(entry, hash)?.diesAtMs ?? 0) &&
      nowMs - Math.max(entry.usedAtMs, entry.live.usedAtMs) < entry.ticketIdleMs;
    if (good) entry.usedAtMs = nowMs;
    return good;
  }

  #highestFence(session: string): number {
    return this.#entries.get(session)?.fence ?? this.#closed.get(session)?.fence ?? Number.NEGATIVE_INFINITY;
  }

  #now(): number {
    return (this.#settings.now ?? Date.now)();
  }
}

export function openLocalGateway(settings: LocalGatewaySettings): LocalGateway {
  return new GatewayOfOneProcess(settings);
}

function fenced(highest: number): GatewayRefusal {
  return { refused: 'fenced', message: `the session was opened or closed with fence ${highest}` };
}

function ticketOf({ tickets }: Entry, hash: Buffer): Ticket | undefined {
  return tickets.find((one) => timingSafeEqual(one.hash, hash));
}

function hashOf(ticket: string): Buffer {
  return createHash('sha256').update(ticket).digest();
}
