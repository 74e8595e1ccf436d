/** Who holds this gateway: it outlives its owners by the grace time only (S5). */
import type { Duplex } from 'node:stream';
import type { RpcPeer } from '../../link/rpc.ts';
import type { Gateway } from '../gateway.ts';
import { serveGateway } from './serve.ts';

export type OwnersOptions = {
  graceMs: number;
  /** The owners are gone for so long, or one of them asked for the end. Called once. */
  onAbandoned(): void;
};

export class Owners {
  readonly #gateway: Gateway;
  readonly #options: OwnersOptions;
  readonly #peers = new Set<RpcPeer>();
  #timer: NodeJS.Timeout | null = null;
  #isOver = false;

  constructor(gateway: Gateway, options: OwnersOptions) {
    this.#gateway = gateway;
    this.#options = options;
    this.#watch();
  }

  serve(socket: Duplex): void {
    const peer = serveGateway(socket, { gateway: this.#gateway, onShutdown: () => this.#end() });
    this.#peers.add(peer);
    this.#watch();
    void peer.closed.then(() => {
      this.#peers.delete(peer);
      this.#watch();
    });
  }

  #watch(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#peers.size === 0 && !this.#isOver)
      this.#timer = setTimeout(() => this.#end(), this.#options.graceMs);
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.onAbandoned();
  }
}
