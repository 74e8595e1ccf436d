/**
 * A list that only grows and whose older versions stay valid: `push` returns a new list and shares the storage where the
 * receiver is the newest version. A log of n events folds in O(n), and `fold` stays pure as seen from outside.
 */
export class AppendOnly<T> implements Iterable<T> {
  readonly #items: T[];
  readonly length: number;

  private constructor(items: T[], length: number) {
    this.#items = items;
    this.length = length;
  }

  static empty<T>(): AppendOnly<T> {
    return new AppendOnly<T>([], 0);
  }

  /** The caller gives the array away. */
  static of<T>(items: T[]): AppendOnly<T> {
    return new AppendOnly<T>(items, items.length);
  }

  push(...added: T[]): AppendOnly<T> {
    // A sibling version has grown beyond this one: branch off, or we would overwrite what it sees.
    const items = this.#items.length === this.length ? this.#items : this.#items.slice(0, this.length);
    for (const item of added) items.push(item);
    return new AppendOnly(items, this.length + added.length);
  }

  /** The first `length` items: this list as it was. */
  take(length: number): AppendOnly<T> {
    return length >= this.length ? this : new AppendOnly(this.#items, length);
  }

  at(index: number): T | undefined {
    if (index < 0) index += this.length;
    return index < this.length ? this.#items[index] : undefined;
  }

  *[Symbol.iterator](): IterableIterator<T> {
    for (let i = 0; i < this.length; i++) yield this.#items[i] as T;
  }

  toArray(): T[] {
    return this.#items.slice(0, this.length);
  }
}
