/**
 * One log, read from its beginning with nothing but the promises in mind. Kept apart from `fold`, so that the two cannot
 * be wrong in the same way. What it finds it names by stream, sequence and promise.
 */
import type { Json, JsonObject } from '../protocol/json.ts';
import { summarize } from '../session/summary.ts';
import { leafHash, payloadCommitment } from '../store/seal.ts';
import type { Leaf, StoredEvent } from '../store/store.ts';
import { asStored } from './drive.ts';

export type Finding = {
  stream: string;
  /** Which promise is broken. */
  promise: 'L1' | 'L3' | 'L4' | 'G4';
  /** Null where it is of the stream as a whole. */
  seq: number | null;
  message: string;
};

export class Walk {
  readonly findings: Finding[] = [];
  readonly #stream: string;
  summary: JsonObject | null = null;
  seq = 0;
  events = 0;
  /** Events whose payloads are gone with their key. */
  erased = 0;
  /** Events that could not be opened though their key is there. */
  unreadable = 0;
  #time = '';
  #fence = 0;
  /** Tool uses without a result, by id. */
  readonly #open = new Map<string, string>();

  constructor(stream: string) {
    this.#stream = stream;
  }

  find(promise: Finding['promise'], seq: number | null, message: string): void {
    this.findings.push({ stream: this.#stream, promise, seq, message });
  }

  take(event: StoredEvent, leaf: Leaf | null): void {
    if (event.seq !== this.seq + 1) this.find('L3', event.seq, `event ${event.seq} follows ${this.seq}`);
    if (event.time < this.#time) this.find('L3', event.seq, `its time ${event.time} is before ${this.#time}`);
    if (event.fence !== null && event.fence < this.#fence) {
      this.find('L3', event.seq, `an owner of fence ${event.fence} wrote after one of ${this.#fence}`);
    }
    this.seq = event.seq;
    this.events++;
    this.#time = event.time;
    this.#fence = Math.max(this.#fence, event.fence ?? 0);
    this.#proof(event, leaf);
    if (event.erased) {
      this.erased++;
      return;
    }
    this.#calls(event);
    this.summary = summarize(this.summary, event);
  }

  /** Past an event that cannot be opened: it, its payload or its place is not what was written. */
  skip(): void {
    this.seq++;
    this.unreadable++;
    this.find(
      'G4',
      this.seq,
      'it can not be opened: it is not what was sealed under this id, or its key is not',
    );
  }

  #proof(event: StoredEvent, leaf: Leaf | null): void {
    if (leaf === null) {
      this.find('G4', event.seq, 'it has no leaf');
      return;
    }
    const { commitments, salts } = leaf;
    if (hex(leafHash(leaf, commitments)) !== leaf.leafHash)
      this.find('G4', event.seq, 'its leaf hash is not that of its envelope and commitments');
    if (salts === null) return;
    if (commitmentOf(salts.public, event.public) !== commitments.public)
      this.find('G4', event.seq, 'its public payload is not the one that was committed to');
    if (commitmentOf(salts.private, event.private) !== commitments.private)
      this.find('G4', event.seq, 'its private payload is not the one that was committed to');
  }

  #calls(stored: StoredEvent): void {
    const event = asStored(stored);
    if (event.type === 'agent.tool_use' || event.type === 'agent.custom_tool_use')
      this.#open.set(event.id, event.public.name);
    if (event.type === 'agent.tool_result' || event.type === 'user.custom_tool_result') {
      const id =
        event.type === 'agent.tool_result' ? event.public.tool_use_id : event.public.custom_tool_use_id;
      if (!this.#open.delete(id)) this.find('L4', event.seq, `${id} has a result, but is not open`);
    }
    if (event.type !== 'turn.ended') return;
    for (const [id, name] of this.#open)
      this.find('L4', event.seq, `the turn ended with ${id} (${name}) open`);
    this.#open.clear();
  }
}

function commitmentOf(salt: string | null, payload: Json): string | null {
  return salt === null ? null : hex(payloadCommitment(Buffer.from(salt, 'hex'), payload));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
