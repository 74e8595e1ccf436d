/**
 * The addresses a session's names are given (S2): out of 198.18.0.0/15, which is routed nowhere. An address means one
 * name for as long as the session lives; it is never given to another, for raw bytes carry no name to check against.
 */

const base = 0xc6120000;
const span = 0x20000;

/** A hostile sandbox may ask for ever new names below a wildcard; it then loses its own resolver, and nothing else. */
export const maxNames = 16_384;

export class FakeAddresses {
  readonly #byName = new Map<string, string>();
  readonly #byAddress = new Map<string, string>();
  readonly #limit: number;

  constructor(limit = maxNames) {
    this.#limit = Math.min(limit, span - 2);
  }

  /** Of a name in its one form; null when the table is full. */
  addressOf(name: string): string | null {
    const known = this.#byName.get(name);
    if (known !== undefined) return known;
    if (this.#byName.size >= this.#limit) return null;
    const value = base + 1 + this.#byName.size;
    const address = [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.');
    this.#byName.set(name, address);
    this.#byAddress.set(address, name);
    return address;
  }

  nameOf(address: string): string | null {
    return this.#byAddress.get(address) ?? null;
  }
}
