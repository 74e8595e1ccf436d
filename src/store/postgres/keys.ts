/**
 * The keys of streams, unwrapped, for the streams lately used. The table is the truth; another process may destroy a
 * key, so whoever sees that a stream is erased has it forgotten here.
 */
import type { KeyObject } from 'node:crypto';
import { masterKeyOf, newStreamKey, openText, sealText, unwrapStreamKey } from '../seal.ts';
import type { Connection } from './connection/pool.ts';
import { run } from './statements.ts';

const maxCached = 2_048;
const checkPlace = ['deployment', 'key check'];

export class Keys {
  readonly #masterKey: KeyObject;
  readonly #cache = new Map<string, KeyObject>();

  constructor(masterKey: Uint8Array) {
    this.#masterKey = masterKeyOf(masterKey);
  }

  /** A new key, and its wrapped form for the stream's row. Not remembered: its transaction may fail. */
  create(stream: string): { key: KeyObject; wrapped: Uint8Array } {
    return newStreamKey(this.#masterKey, stream);
  }

  /** The key in a row that was just read. */
  unwrap(stream: string, wrapped: Uint8Array | null): KeyObject | null {
    if (wrapped === null) {
      this.#cache.delete(stream);
      return null;
    }
    const cached = this.#cache.get(stream);
    if (cached !== undefined) return cached;
    const key = unwrapStreamKey(this.#masterKey, stream, wrapped);
    this.#remember(stream, key);
    return key;
  }

  /** Null where the stream is erased or does not exist. */
  async of(connection: Connection, stream: string): Promise<KeyObject | null> {
    const cached = this.#cache.get(stream);
    if (cached !== undefined) return cached;
    const [row] = await run<{ wrapped: Uint8Array }>(connection, 'keyOf', [stream]);
    return row === undefined ? null : this.unwrap(stream, row.wrapped);
  }

  forget(stream: string): void {
    this.#cache.delete(stream);
  }

  /** What only the holder of this master key can open. */
  makeCheck(): Uint8Array {
    return sealText(this.#masterKey, checkPlace, 'scriptorium');
  }

  passes(check: Uint8Array): boolean {
    try {
      return openText(this.#masterKey, checkPlace, check) === 'scriptorium';
    } catch {
      return false;
    }
  }

  #remember(stream: string, key: KeyObject): void {
    if (this.#cache.size >= maxCached) {
      const oldest = this.#cache.keys().next();
      if (!oldest.done) this.#cache.delete(oldest.value);
    }
    this.#cache.set(stream, key);
  }
}
