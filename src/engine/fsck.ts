/**
 * Checks a store against its own promises: every projection is rebuilt from the log and compared (L1), every log is read
 * for gaps, order, stray fences and open calls (L3, L4), and every request is derived anew (L7). Reads only.
 */
import { canonicalJson, type JsonObject } from '../protocol/json.ts';
import { summarize } from '../session/summary.ts';
import type { Store, StoredEvent, StreamRow, Tenant } from '../store/store.ts';
import { asStored } from './drive.ts';

export type Finding = {
  stream: string;
  /** Which promise is broken. */
  promise: 'L1' | 'L3' | 'L4';
  seq: number | null;
  message: string;
};

export type Fsck = { streams: number; events: number; findings: Finding[] };

const page = 100;
const batch = 1_000;
/** Enough to know; a store that is broken through and through need not fill a terminal. */
const maxFindings = 1_000;

export async function fsckSessions(store: Store, tenant: Tenant): Promise<Fsck> {
  const result: Fsck = { streams: 0, events: 0, findings: [] };
  let after: { createdAt: string; stream: string } | undefined;
  for (;;) {
    const query = {
      ...tenant,
      kind: 'session' as const,
      includeArchived: true,
      order: 'asc' as const,
      limit: page,
    };
    const rows = await store.listStreams({ ...query, ...(after ? { after } : {}) });
    for (const row of rows) {
      const checked = await fsckStream(store, row);
      result.streams++;
      result.events += checked.events;
      result.findings.push(...checked.findings.slice(0, maxFindings - result.findings.length));
    }
    const last = rows.at(-1);
    if (!last || rows.length < page) return result;
    after = { createdAt: last.createdAt, stream: last.stream };
  }
}

/** One stream. A session that moves while it is read is compared up to the head that its row names. */
export async function fsckStream(
  store: Store,
  row: StreamRow,
): Promise<{ events: number; findings: Finding[] }> {
  const walk = new Walk(row.stream);
  while (walk.seq < row.head) {
    const events = await store.read(row.stream, walk.seq, Math.min(batch, row.head - walk.seq));
    if (events.length === 0) {
      walk.find('L1', null, `the row names ${row.head} as head, the log ends at ${walk.seq}`);
      break;
    }
    for (const event of events) walk.take(event);
  }
  if (row.summary && canonicalJson(walk.summary ?? {}) !== canonicalJson(row.summary)) {
    const names = Object.keys(row.summary).filter((name) => differs(name, walk.summary, row.summary));
    walk.find('L1', null, `the stored summary differs from the rebuilt one in ${names.join(', ')}`);
  }
  return { events: walk.seq, findings: walk.findings };
}

function differs(name: string, a: JsonObject | null, b: JsonObject | null): boolean {
  return canonicalJson(a?.[name] ?? null) !== canonicalJson(b?.[name] ?? null);
}

/** Reads one log from its beginning. */
class Walk {
  readonly findings: Finding[] = [];
  readonly #stream: string;
  summary: JsonObject | null = null;
  seq = 0;
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

  take(event: StoredEvent): void {
    if (event.seq !== this.seq + 1) this.find('L3', event.seq, `event ${event.seq} follows ${this.seq}`);
    if (event.time < this.#time) this.find('L3', event.seq, `its time ${event.time} is before ${this.#time}`);
    if (event.fence !== null && event.fence < this.#fence) {
      this.find('L3', event.seq, `an owner of fence ${event.fence} wrote after one of ${this.#fence}`);
    }
    this.seq = event.seq;
    this.#time = event.time;
    this.#fence = Math.max(this.#fence, event.fence ?? 0);
    this.#calls(event);
    this.summary = summarize(this.summary, event);
  }

  /** Kept apart from `fold`, so that the two cannot be wrong in the same way. */
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
