/**
 * Host tokens that were revoked. A token is made from the cluster secret and is listed nowhere, so what is kept is the
 * name that is no longer let in: in the organisation's stream, once and for good (G4). All engines of a fleet know it.
 *
 * S4: whoever cannot learn whether a token was revoked lets nobody in.
 */
import { newId } from '../protocol/ids.ts';
import { defaultTenant } from '../protocol/tenant.ts';
import type { Append, Store } from '../store/store.ts';
import { StoreUnavailable } from '../store/store.ts';

export type RevokedToken = { name: string; revokedAt: string; by: string; reason: string };

const kind = 'revoked_host_token';
const listLimit = 1_000;
const retryMs = 1_000;

export class HostTokens {
  readonly #store: Store;
  readonly #nowMs: () => number;

  constructor(store: Store, nowMs: () => number = Date.now) {
    this.#store = store;
    this.#nowMs = nowMs;
  }

  /** Rejects with `StoreUnavailable` where nobody can say. */
  async isRevoked(name: string): Promise<boolean> {
    return (await this.#store.resource(defaultTenant, kind, name)) !== null;
  }

  /** Idempotent; the first reason stands. */
  async revoke(name: string, by: string, reason: string): Promise<void> {
    const nowMs = this.#nowMs();
    const time = new Date(nowMs).toISOString();
    const append: Append = {
      ...defaultTenant,
      stream: defaultTenant.organization,
      events: [
        {
          ...{ id: newId('event', nowMs), type: 'host_token.revoked', actor: by, audience: 'operator' },
          ...{ thread: null, turn: null, call: null, causation: null },
          public: { name, reason },
          private: null,
        },
      ],
      resources: [
        {
          ...{ kind, id: name, version: 1, body: { by, reason }, createdAt: time, updatedAt: time },
          ...{ archivedAt: null, uniqueName: null },
        },
      ],
    };
    const result = await this.#store.append(append);
    const isKnown = result.status === 'conflict' && result.reason === 'version';
    if (result.status !== 'ok' && !isKnown)
      throw new Error(`the token of ${name} was not revoked: ${result.status}`);
  }

  /** The newest ones; `isRevoked` knows all. */
  async revoked(): Promise<RevokedToken[]> {
    const rows = await this.#store.listResources({ ...defaultTenant, kind, limit: listLimit });
    return rows.map(({ id, createdAt, body }) => ({
      name: id,
      revokedAt: createdAt,
      by: String(body.by),
      reason: String(body.reason),
    }));
  }

  /**
   * Calls back with every name that is revoked: after each commit in the organisation's stream, by whatever process, so
   * that links which are open are cut. Returns what ends it.
   */
  watch(cut: (name: string) => void, onError: (error: unknown) => void): () => void {
    let timer: NodeJS.Timeout | null = null;
    let isOver = false;
    const look = async (): Promise<void> => {
      try {
        for (const { name } of await this.revoked()) cut(name);
      } catch (error) {
        // A store that is away is complained of by those who need it.
        if (!(error instanceof StoreUnavailable)) onError(error);
        if (!isOver) timer = setTimeout(() => void look(), retryMs);
      }
    };
    const unsubscribe = this.#store.onAppend((touched) => {
      if (touched.some(({ stream }) => stream === defaultTenant.organization)) void look();
    });
    return () => {
      isOver = true;
      unsubscribe();
      if (timer !== null) clearTimeout(timer);
    };
  }
}
