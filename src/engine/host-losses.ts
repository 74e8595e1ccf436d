/**
 * Hosts that are given up: by an operator's word, or because they were away for longer than the deployment allows. Written
 * in the organisation's stream once and for good (G4): a host that was given up stays out, since its sessions have gone on
 * elsewhere, and all engines of a fleet know it.
 */
import { defaultTenant } from '../protocol/tenant.ts';
import type { HostAway } from '../sandbox/executor.ts';
import type { Store } from '../store/store.ts';
import { declareOnce } from './declaration.ts';

export type LostHost = { id: string; lostAt: string; by: string; reason: string };

const kind = 'lost_host';
const listLimit = 1_000;

export class HostLosses {
  readonly #store: Store;
  readonly #lostAfterMs: number;
  readonly #nowMs: () => number;

  constructor(store: Store, lostAfterMs: number, nowMs: () => number = Date.now) {
    this.#store = store;
    this.#lostAfterMs = lostAfterMs;
    this.#nowMs = nowMs;
  }

  async isLost(host: string): Promise<boolean> {
    return (await this.#store.resource(defaultTenant, kind, host)) !== null;
  }

  /** Whether to go on without a host that is away; says so for all where the time has come. */
  async isGivenUp({ host, awayMs }: HostAway): Promise<boolean> {
    if (host === null) return false;
    if (await this.isLost(host)) return true;
    if (awayMs < this.#lostAfterMs) return false;
    await this.declare(host, 'engine', `it was not connected for ${Math.round(awayMs / 1000)} s`);
    return true;
  }

  /** Idempotent. */
  declare(host: string, by: string, reason: string): Promise<void> {
    const about = { host };
    const nowMs = this.#nowMs();
    return declareOnce(this.#store, { kind, id: host, eventType: 'host.lost', about, by, reason, nowMs });
  }

  async list(): Promise<LostHost[]> {
    const rows = await this.#store.listResources({ ...defaultTenant, kind, limit: listLimit });
    return rows.map(({ id, createdAt, body }) => ({
      id,
      lostAt: createdAt,
      by: String(body.by),
      reason: String(body.reason),
    }));
  }
}
