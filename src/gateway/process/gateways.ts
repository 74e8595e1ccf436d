/**
 * The gateways of a fleet, as one engine is linked to them: each dialled us, and goes by the name of the host beside it.
 *
 * - S1: what is meant for the gateway of a name goes to whoever proved its token, and to nobody else. The newest
 *   connection of a name counts; a token is for one machine.
 * - S4: one whose token was revoked is not spoken to. A gateway that is away is waited for (`GatewayAway`): a session never
 *   goes out by another's, and never without.
 * - One that does not answer for `silentMs` is cut off; what waited for it learns so.
 */
import type { Socket } from 'node:net';
import { type Gateway, GatewayAway, type GatewaySession, GatewayUnreachable } from '../gateway.ts';
import { GatewayClient } from './client.ts';

type Options = { pingMs?: number; silentMs?: number; settleMs?: number };

export type AttachOptions = {
  /** Of the token that the gateway proved to have. */
  name: string;
  socket: Socket;
  /** Of the token. */
  isRevoked(name: string): Promise<boolean>;
};

const defaultPingMs = 3_000;
const defaultSilentMs = 12_000;
/** An engine that has just started has not heard of all gateways: until then none is said not to exist. */
const defaultSettleMs = 15_000;

/** One name's gateway, whichever connection it has now. */
class LinkedGateway implements Gateway {
  client: GatewayClient | null = null;
  readonly #about: string;

  constructor(about: string) {
    this.#about = about;
  }

  generation() {
    return this.#ask((client) => client.generation());
  }

  openSession(session: GatewaySession) {
    return this.#ask((client) => client.openSession(session));
  }

  closeSession(request: { session: string; fence: number }) {
    return this.#ask((client) => client.closeSession(request));
  }

  observe(request: { session: string; acknowledge: number; waitMs: number }) {
    return this.#ask((client) => client.observe(request));
  }

  async #ask<T>(ask: (client: GatewayClient) => Promise<T>): Promise<T> {
    const { client } = this;
    if (client === null) throw new GatewayAway(`${this.#about} is not connected`);
    try {
      return await ask(client);
    } catch (error) {
      throw error instanceof GatewayUnreachable ? new GatewayAway(error.message) : error;
    }
  }
}

export class Gateways {
  readonly #members = new Map<string, LinkedGateway>();
  readonly #nobody = new LinkedGateway('a gateway beside a host');
  readonly #settledAtMs: number;
  readonly #silentMs: number;
  readonly #timer: NodeJS.Timeout;

  constructor({
    pingMs = defaultPingMs,
    silentMs = defaultSilentMs,
    settleMs = defaultSettleMs,
  }: Options = {}) {
    this.#settledAtMs = performance.now() + settleMs;
    this.#silentMs = silentMs;
    this.#timer = setInterval(() => this.#pingAll(), pingMs).unref();
  }

  /** Settles with the gateway's name, or with why it was turned away. */
  async attach({ name, socket, isRevoked }: AttachOptions): Promise<{ name: string } | { refused: string }> {
    let isTaken = false;
    const client = new GatewayClient(async () => {
      // A connection that a gateway dialled cannot be dialled again from here.
      if (isTaken) throw new GatewayUnreachable('it has disconnected');
      isTaken = true;
      return socket;
    });
    const refused = await greet(client, name, isRevoked).catch((error: Error) => error.message);
    if (refused !== null) {
      await client.close();
      socket.destroy();
      return { refused };
    }
    const linked = this.#members.get(name) ?? new LinkedGateway(`the gateway of host ${name}`);
    this.#members.set(name, linked);
    const before = linked.client;
    linked.client = client;
    await before?.close();
    const gone = (): void => drop(linked, client);
    socket.once('close', gone);
    if (socket.destroyed) gone();
    // Revoked since it was greeted: whoever cuts did not find it yet.
    if (await isRevoked(name).catch(() => true)) this.cut(name);
    return { name };
  }

  /** The gateway beside a host; null where there is none. `host` null: of a session without a place. */
  at(host: string | null): Gateway | null {
    const linked = host === null ? undefined : this.#members.get(nameOf(host));
    if (linked) return linked;
    const mayCome = performance.now() < this.#settledAtMs || (host === null && this.#members.size > 0);
    return mayCome ? this.#nobody : null;
  }

  /** Whether the gateway beside a host is connected now. */
  isBeside(host: string): boolean {
    return this.#members.get(nameOf(host))?.client?.isConnected === true;
  }

  /** Ends the connection of whoever came with the token of this name. */
  cut(name: string): void {
    const linked = this.#members.get(name);
    if (linked?.client) drop(linked, linked.client);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all([...this.#members.values()].map(({ client }) => client?.close()));
  }

  #pingAll(): void {
    for (const linked of this.#members.values())
      if (linked.client !== null) void this.#ping(linked, linked.client);
  }

  async #ping(linked: LinkedGateway, client: GatewayClient): Promise<void> {
    const tooLong = setTimeout(() => drop(linked, client), this.#silentMs);
    try {
      await client.ping();
    } catch (error) {
      if (!(error instanceof GatewayUnreachable)) throw error;
    } finally {
      clearTimeout(tooLong);
    }
  }
}

/** Its name stays known: whoever needs it waits. */
function drop(linked: LinkedGateway, client: GatewayClient): void {
  if (linked.client === client) linked.client = null;
  void client.close();
}

async function greet(
  client: GatewayClient,
  name: string,
  isRevoked: (name: string) => Promise<boolean>,
): Promise<string | null> {
  if (await isRevoked(name)) return `the token of the gateway of ${name} was revoked`;
  await client.hello();
  return null;
}

/** A host's id is its name and a random part. */
function nameOf(host: string): string {
  return host.split('~', 1)[0] ?? host;
}
