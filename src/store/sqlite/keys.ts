/**
 * The keys of streams, unwrapped, for the streams lately used. The table is the truth: what a rolled-back transaction
 * wrote must be forgotten here too.
 */
import type { KeyObject } from 'node:crypto';
import { masterKeyOf, newStreamKey, unwrapStreamKey } from '../seal.ts';
import type { Tenant } from '../store.ts';
import type { Statements } from './statements.ts';

const maxCached = 2_048;

export class Keys {
  readonly #masterKey: KeyObject;
  readonly #statements: Statements;
  readonly #cache = new Map<string, KeyObject>();

  constructor(masterKey: Uint8Array, statements: Statements) {
    this.#masterKey = masterKeyOf(masterKey);
    this.#statements = statements;
  }

  create(tenant: Tenant, stream: string): KeyObject {
    const { organization, project } = tenant;
    const { key, wrapped } = newStreamKey(this.#masterKey, stream);
    this.#statements.insertKey.run({ organization, project, stream, wrapped });
    this.#remember(stream, key);
    return key;
  }

  /** Null where the stream is erased or does not exist. */
  of(stream: string): KeyObject | null {
    const cached = this.#cache.get(stream);
    if (cached !== undefined) return cached;
    const row = this.#statements.keyOf.get({ stream });
    if (row === undefined) return null;
    const key = unwrapStreamKey(this.#masterKey, stream, row.wrapped as Uint8Array);
    this.#remember(stream, key);
    return key;
  }

  destroy(stream: string): void {
    this.#statements.deleteKey.run({ stream });
    this.#cache.delete(stream);
  }

  /** Whether the master key is the one this stream's key was wrapped with. */
  opens(stream: string): boolean {
    try {
      return this.of(stream) !== null;
    } catch {
      return false;
    }
  }

  forget(stream: string): void {
    this.#cache.delete(stream);
  }

  forgetAll(): void {
    this.#cache.clear();
  }

  #remember(stream: string, key: KeyObject): void {
    if (this.#cache.size >= maxCached) {
      const oldest = this.#cache.keys().next();
      if (!oldest.done) this.#cache.delete(oldest.value);
    }
    this.#cache.set(stream, key);
  }
}
