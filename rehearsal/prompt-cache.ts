/**
 * An honest prompt cache: what counts as cached is the longest prefix that an earlier request with the same
 * `prompt_cache_key` really had, byte by byte, in the steps of the real one. A client that breaks its prefix sees it
 * in `cached_tokens`.
 */

/** Rough, and the same for everyone: the real tokenizer needs 30 MB of tables. */
const bytesPerToken = 4;
const leastCachedTokens = 1024;
const stepTokens = 128;
const rememberedBodies = 4;
const rememberedKeys = 1024;
const compareBytes = 64 * 1024;

export function tokensOf(bytes: number): number {
  return Math.ceil(bytes / bytesPerToken);
}

export class PromptCache {
  readonly #bodies = new Map<string, Buffer[]>();

  /** Cached tokens of this body; remembers it for the next. */
  admit(key: string, body: Buffer): number {
    const before = this.#bodies.get(key) ?? [];
    const longest = before.reduce((most, other) => Math.max(most, commonPrefix(other, body)), 0);
    // Deleted and set again: a Map keeps the order of insertion, so its first key is the one not used for longest.
    this.#bodies.delete(key);
    this.#bodies.set(key, [body, ...before].slice(0, rememberedBodies));
    const [oldest] = this.#bodies.keys();
    if (this.#bodies.size > rememberedKeys && oldest !== undefined) this.#bodies.delete(oldest);
    const tokens = Math.floor(longest / bytesPerToken);
    return tokens < leastCachedTokens ? 0 : Math.floor(tokens / stepTokens) * stepTokens;
  }
}

export function commonPrefix(left: Buffer, right: Buffer): number {
  const limit = Math.min(left.length, right.length);
  let at = 0;
  // Whole blocks first: `compare` runs at memory speed, a loop over bytes does not.
  while (at < limit) {
    const end = Math.min(at + compareBytes, limit);
    if (left.compare(right, at, end, at, end) !== 0) break;
    at = end;
  }
  while (at < limit && left[at] === right[at]) at += 1;
  return at;
}
