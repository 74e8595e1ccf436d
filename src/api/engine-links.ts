/**
 * The engines of other processes, as an api needs them: previews of what their models say, and the workspaces of
 * sessions. Keeps one link to every living engine; who lives is read from the store.
 *
 * - A preview that is lost with a link is lost: the event that it announced comes through the log (L2).
 * - Any engine can show any workspace, since every host is connected to every engine; the next is asked where one is gone.
 */
import { type Bundle, type Diff, type MadeBundle, pieces, type Unavailable } from '../engine/workspace.ts';
import { LinkLost, RpcPeer } from '../link/rpc.ts';
import { apiIdentity, keyOf } from '../link/secret.ts';
import { dialLink, parseAddress } from '../link/tls.ts';
import type { PreviewBus, PreviewFrame } from '../protocol/previews.ts';
import type { HostView } from '../sandbox/fleet/fleet.ts';
import type { Blobs, Store } from '../store/store.ts';

type Options = {
  store: Store;
  blobs: Blobs;
  secret: Buffer;
  /** Our own engine's address, where this process has one: it needs no link. */
  own: string | null;
  everyMs?: number;
};

type Listener = (frame: PreviewFrame) => void;

const defaultEveryMs = 1_000;
const askMs = 60_000;
const noEngine: Unavailable = {
  ok: false,
  reason: 'unavailable',
  message: 'No engine that could show the workspace can be reached now.',
};

export class EngineLinks implements PreviewBus {
  readonly #options: Options;
  readonly #peers = new Map<string, RpcPeer>();
  readonly #dialling = new Set<string>();
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #timer: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: Options) {
    this.#options = options;
    this.#timer = setInterval(() => void this.refresh(), options.everyMs ?? defaultEveryMs).unref();
  }

  /** Never rejects: what cannot be reached now is tried again. */
  async refresh(): Promise<void> {
    const engines = await engineAddresses(this.#options.store).catch(() => []);
    await Promise.all(engines.map((address) => this.#dial(address)));
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    for (const peer of this.#peers.values()) peer.close();
  }

  async #dial(address: string): Promise<void> {
    const to = parseAddress(address);
    if (to === null || address === this.#options.own) return;
    if (this.#peers.has(address) || this.#dialling.has(address)) return;
    this.#dialling.add(address);
    try {
      const key = keyOf(this.#options.secret, apiIdentity);
      const socket = await dialLink(to, { identity: apiIdentity, key });
      const peer = new RpcPeer(
        socket,
        () => undefined,
        (method, params) => this.#hear(method, params),
      );
      if (this.#isClosed) return peer.close();
      this.#peers.set(address, peer);
      void peer.closed.then(() => this.#peers.delete(address));
      for (const session of this.#listeners.keys()) peer.tell('previews/subscribe', { session });
    } catch {
      // Dead and not yet found dead, or not yet listening: the next round tells.
    } finally {
      this.#dialling.delete(address);
    }
  }

  #hear(method: string, params: unknown): void {
    if (method !== 'previews/frame') return;
    const { session, frame } = params as { session: string; frame: PreviewFrame };
    for (const listener of this.#listeners.get(session) ?? []) listener(frame);
  }

  subscribe(session: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(session) ?? new Set();
    if (listeners.size === 0) this.#tellAll('previews/subscribe', session);
    this.#listeners.set(session, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#listeners.get(session) !== listeners) return;
      this.#listeners.delete(session);
      this.#tellAll('previews/unsubscribe', session);
    };
  }

  #tellAll(method: string, session: string): void {
    for (const peer of this.#peers.values()) peer.tell(method, { session });
  }

  async diff(session: string): Promise<Diff | Unavailable> {
    return ((await this.#ask('workspace/diff', { session })) as Diff | Unavailable | null) ?? noEngine;
  }

  async exportBundle(session: string): Promise<Bundle | Unavailable> {
    const made = (await this.#ask('workspace/bundle', { session })) as MadeBundle | Unavailable | null;
    if (made === null || !made.ok) return made ?? noEngine;
    const { organization, sha256, ...bundle } = made;
    // The bytes lie where all processes of the fleet find blobs; only their name has travelled.
    return { ...bundle, bundle: pieces(this.#options.blobs, organization, sha256) };
  }

  /** Of all engines: connected where it is to one of them. */
  async hosts(): Promise<HostView[]> {
    const answers = await Promise.all(
      [...this.#peers.values()].map((peer) => peer.ask('hosts/list', {}).catch(() => [])),
    );
    return mergeHosts(answers.flat() as HostView[]);
  }

  async #ask(method: string, params: object): Promise<unknown> {
    if (this.#peers.size === 0) await this.refresh();
    for (const peer of [...this.#peers.values()]) {
      let timer: NodeJS.Timeout | undefined;
      try {
        const tooLong = new Promise((_, reject) => {
          timer = setTimeout(() => reject(new LinkLost('no answer in time')), askMs);
        });
        return await Promise.race([peer.ask(method, params), tooLong]);
      } catch (error) {
        if (!(error instanceof LinkLost)) throw error;
      } finally {
        clearTimeout(timer);
      }
    }
    return null;
  }
}

export function mergeHosts(views: HostView[]): HostView[] {
  const merged = new Map<string, HostView>();
  for (const view of views) {
    const other = merged.get(view.id);
    merged.set(view.id, {
      id: view.id,
      isConnected: view.isConnected || other?.isConnected === true,
      sandboxes: Math.max(view.sandboxes, other?.sandboxes ?? 0),
      lastSeenMs: Math.max(view.lastSeenMs, other?.lastSeenMs ?? 0),
    });
  }
  return [...merged.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Where the living engines can be dialled, as they said themselves when they joined. */
export async function engineAddresses(store: Store): Promise<string[]> {
  const workers = await store.workers();
  return workers.flatMap(({ info }) => (typeof info.engine === 'string' ? [info.engine] : []));
}
