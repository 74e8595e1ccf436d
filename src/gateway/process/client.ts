/**
 * The gateway port over a socket. Every method settles; it rejects with `GatewayUnreachable` where the process cannot be
 * reached or the connection broke before the answer. The next call dials anew, so a client outlives any number of gateways.
 */
import type { Duplex } from 'node:stream';
import { LinkLost, RpcPeer } from '../../link/rpc.ts';
import {
  type Gateway,
  type GatewayObservation,
  type GatewayOpened,
  type GatewayRefusal,
  type GatewaySession,
  GatewayUnreachable,
} from '../gateway.ts';

export const GATEWAY_PROTOCOL = 1;

export type GatewayHello = {
  protocol: number;
  generation: string;
  pid: number;
  /** Its own, where it could change to it. */
  uid: number | null;
};

type Greeted = { peer: RpcPeer; hello: GatewayHello };

export class GatewayClient implements Gateway {
  readonly #dial: () => Promise<Duplex>;
  #greeted: Greeted | null = null;
  #greeting: Promise<Greeted> | null = null;
  #isClosed = false;

  constructor(dial: () => Promise<Duplex>) {
    this.#dial = dial;
  }

  get isConnected(): boolean {
    return this.#greeted?.peer.isOpen === true;
  }

  /** Of the process that answers now; learned once a connection. */
  async hello(): Promise<GatewayHello> {
    return (await this.#connected()).hello;
  }

  /** Whether it still answers. */
  async ping(): Promise<void> {
    await this.#ask('gateway/hello', {});
  }

  async generation(): Promise<string> {
    return (await this.hello()).generation;
  }

  openSession(session: GatewaySession): Promise<GatewayOpened | GatewayRefusal> {
    return this.#ask('gateway/open', session) as Promise<GatewayOpened | GatewayRefusal>;
  }

  closeSession(request: { session: string; fence: number }) {
    return this.#ask('gateway/close', request) as Promise<Record<string, never> | GatewayRefusal>;
  }

  observe(request: { session: string; acknowledge: number; waitMs: number }) {
    return this.#ask('gateway/observe', request) as Promise<GatewayObservation[] | GatewayRefusal>;
  }

  /** Ends the process: every connection of every session, and what it knew. */
  async shutdown(): Promise<void> {
    await this.#ask('gateway/shutdown', {});
  }

  /** Lets it go: without another owner it ends after its grace time. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#greeting?.catch(() => null);
    this.#greeted?.peer.close();
  }

  async #ask(method: string, params: object): Promise<unknown> {
    const { peer } = await this.#connected();
    try {
      return await peer.ask(method, params);
    } catch (error) {
      throw error instanceof LinkLost ? new GatewayUnreachable(`the gateway: ${error.message}`) : error;
    }
  }

  #connected(): Promise<Greeted> {
    if (this.#isClosed) return Promise.reject(new GatewayUnreachable('this client was closed'));
    if (this.#greeted?.peer.isOpen) return Promise.resolve(this.#greeted);
    this.#greeting ??= this.#greet().finally(() => {
      this.#greeting = null;
    });
    return this.#greeting;
  }

  async #greet(): Promise<Greeted> {
    let hello: GatewayHello;
    let peer: RpcPeer;
    try {
      peer = new RpcPeer(await this.#dial(), () => undefined);
      hello = (await peer.ask('gateway/hello', {})) as GatewayHello;
    } catch (error) {
      throw new GatewayUnreachable(`the gateway cannot be reached: ${(error as Error).message}`);
    }
    if (hello.protocol !== GATEWAY_PROTOCOL) {
      peer.close();
      throw new GatewayUnreachable(
        `a gateway of another release runs here (protocol ${hello.protocol}); end it first`,
      );
    }
    this.#greeted = { peer, hello };
    return this.#greeted;
  }
}
