/**
 * Host tokens that were revoked. A token is made from the cluster secret and is listed nowhere, so what is kept is the
 * name that is no longer let in: in the organisation's stream, once and for good (G4). All engines of a fleet know it.
 *
 * S4: whoever cannot learn whether a token was revoked lets nobody in.
 */
import { defaultTenant } from '../protocol/tenant.ts';
import type { Store } from '../store/store.ts';
import { StoreUnavailable } from '../store/store.ts';
import { declareOnce } from './declaration.ts';

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
  revoke(name: string, by: string, reason: string): Promise<void> {
    const about = { name };
    const nowMs = this.#nowMs();
    return declareOnce(this.#store, {
      kind,
      id: name,
      eventType: 'host_token.revoked',
      about,
      by,
      reason,
      nowMs,
    });
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
