/**
 * Summaries of streams lately written to, as they were at a head: to open and parse one again for each append costs more
 * than to write the append. Nothing has to be forgotten when a transaction is rolled back: whoever writes a head, writes
 * its summary here, so an entry under the head that the row has is always the last writer's.
 */
import type { KeyObject } from 'node:crypto';
import type { JsonObject } from '../../../protocol/json.ts';
import { openText } from '../../seal.ts';
import type { Statements } from '../statements.ts';

const maxRemembered = 512;

export class Summaries {
  readonly #statements: Statements;
  readonly #remembered = new Map<string, { head: number; summary: JsonObject }>();

  constructor(statements: Statements) {
    this.#statements = statements;
  }

  /** Of a stream whose row has this head. */
  at(stream: string, head: number, key: KeyObject): JsonObject | null {
    const remembered = this.#remembered.get(stream);
    if (remembered?.head === head) return remembered.summary;
    const sealed = this.#statements.summaryOf.get({ stream })?.summary;
    if (!(sealed instanceof Uint8Array)) return null;
    return JSON.parse(openText(key, [stream, 'summary'], sealed)) as JsonObject;
  }

  remember(stream: string, head: number, summary: JsonObject): void {
    this.#remembered.delete(stream);
    this.#remembered.set(stream, { head, summary });
    if (this.#remembered.size <= maxRemembered) return;
    const oldest = this.#remembered.keys().next();
    if (!oldest.done) this.#remembered.delete(oldest.value);
  }
}
