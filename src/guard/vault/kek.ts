/**
 * The key-encryption key of the vault: wraps the data key of every credential. A key file beside the master key
 * (`key-files.ts`) or an external key service (`key-service.ts`) stands behind it.
 *
 * Contract: rejects with `KekUnavailable` where the key can not be had now, or is not the one that wrapped. Its message
 * names no key and no secret (S1).
 */
import type { Place } from '../../store/seal.ts';

export type WrappedKey = {
  /** Which version wrapped it. */
  keyId: string;
  wrapped: Uint8Array;
};

export type Kek = {
  /** `place` is bound: a wrapped key opens nowhere else. */
  wrap(dataKey: Uint8Array, place: Place): Promise<WrappedKey>;
  unwrap(wrapped: WrappedKey, place: Place): Promise<Uint8Array>;
  /** Makes a newer version the one that wraps, where versions are ours to make; the id of the one that wraps now. */
  advance(): Promise<string>;
};

export class KekUnavailable extends Error {
  override name = 'KekUnavailable';
}
