/**
 * Checks a store against its own promises: every projection is rebuilt from the log and compared (L1), every log is read
 * for gaps, order, stray fences and open calls (L3, L4), and the leaf of every event is computed anew from its clear
 * columns, its commitments from its payloads (G4). L7 is `replay.ts`'s. Reads only, page by page, so that a server that
 * is asked goes on serving.
 */
import { canonicalJson, type JsonObject } from '../protocol/json.ts';
import { decodeState, encodeState, snapshotReader } from '../session/snapshot.ts';
import { initialState, type SessionState } from '../session/state.ts';
import type { Leaf, Snapshot, Store, StoredEvent, StreamRow, Tenant } from '../store/store.ts';
import { StoreUnavailable } from '../store/store.ts';
import { foldStored } from './folded-sessions.ts';
import type { Finding } from './fsck-walk.ts';
import { Walk } from './fsck-walk.ts';

export type { Finding } from './fsck-walk.ts';

export type Fsck = {
  streams: number;
  events: number;
  findings: Finding[];
  /** Findings beyond those that are listed. */
  omitted: number;
};

/** Where the next page begins; null: everything has been read. */
export type FsckPosition = { createdAt: string; stream: string };
export type FsckPage = Fsck & { next: FsckPosition | null };

const rowsPerPage = 100;
/** A page ends with the stream in which it has read so many. A longer stream is read whole, batch by batch. */
const eventsPerPage = 20_000;
const batch = 500;
/** Enough to know; a store that is broken through and through need not fill a terminal. */
const maxFindings = 1_000;
/** Where so many events of a stream do not open, no more of it are tried. */
const maxUnreadable = 10;

/** The first page also reads the organisation's own stream. */
export async function fsckPage(store: Store, tenant: Tenant, after: FsckPosition | null): Promise<FsckPage> {
  const page: FsckPage = { streams: 0, events: 0, findings: [], omitted: 0, next: null };
  const own = after === null ? await store.stream(tenant, tenant.organization) : null;
  if (own) add(page, await fsckStream(store, own));
  const rows = await store.listStreams({
    ...tenant,
    kind: 'session',
    includeArchived: true,
    order: 'asc',
    limit: rowsPerPage,
    ...(after ? { after } : {}),
  });
  for (const [index, row] of rows.entries()) {
    add(page, await fsckStream(store, row));
    const isLast = index === rows.length - 1 && rows.length < rowsPerPage;
    const isFull = page.events >= eventsPerPage || index === rows.length - 1;
    if (isFull && !isLast) return { ...page, next: { createdAt: row.createdAt, stream: row.stream } };
  }
  return page;
}

function add(page: FsckPage, checked: { events: number; findings: Finding[] }): void {
  page.streams++;
  page.events += checked.events;
  const shown = checked.findings.slice(0, maxFindings - page.findings.length);
  page.findings.push(...shown);
  page.omitted += checked.findings.length - shown.length;
}

/** All pages. */
export async function fsckStore(store: Store, tenant: Tenant): Promise<Fsck> {
  const result: Fsck = { streams: 0, events: 0, findings: [], omitted: 0 };
  let after: FsckPosition | null = null;
  do {
    const page: FsckPage = await fsckPage(store, tenant, after);
    result.streams += page.streams;
    result.events += page.events;
    result.findings.push(...page.findings);
    result.omitted += page.omitted;
    after = page.next;
  } while (after !== null);
  return result;
}

/** One stream. A session that moves while it is read is compared up to the head that its row names. */
export async function fsckStream(
  store: Store,
  row: StreamRow,
): Promise<{ events: number; findings: Finding[] }> {
  const walk = new Walk(row.stream);
  const refold = refoldUpTo(await store.snapshot(row.stream));
  while (walk.seq < row.head && walk.unreadable < maxUnreadable) {
    if (!(await step(store, row, walk, refold))) break;
  }
  if (walk.unreadable >= maxUnreadable)
    walk.find('G4', null, `${maxUnreadable} events can not be opened; what follows was not read`);
  const wasErased = walk.erased > 0 && !row.erased;
  if (wasErased && (await store.stream(row, row.stream))?.erased === false)
    walk.find('L1', null, 'its key is gone, though it was not deleted: its payloads can not be read');
  if (walk.unreadable > 0) return { events: walk.events, findings: walk.findings };
  await compareHead(store, row, walk);
  if (walk.erased === 0) {
    compareSummary(row, walk);
    compareSnapshot(refold, walk);
  }
  return { events: walk.events, findings: walk.findings };
}

/** Takes the next events; false where there are none. */
async function step(store: Store, row: StreamRow, walk: Walk, refold: Refold | null): Promise<boolean> {
  const limit = Math.min(batch, row.head - walk.seq);
  const read = (await attempt(store, row.stream, walk.seq, limit)) ?? (await readOne(store, row, walk));
  if (read === null) return true;
  if (read.events.length === 0) {
    walk.find('L1', null, `the row names ${row.head} as head, the log ends at ${walk.seq}`);
    return false;
  }
  const leaves = new Map(read.leaves.map((leaf) => [leaf.seq, leaf]));
  for (const event of read.events) {
    walk.take(event, leaves.get(event.seq) ?? null);
    if (refold !== null && event.seq <= refold.snapshot.seq) refold.state = foldStored(refold.state, event);
  }
  return true;
}

type Read = { events: StoredEvent[]; leaves: Leaf[] };

/** A batch with an event in it that does not open gives nothing at all: then they are read one by one. */
async function readOne(store: Store, row: StreamRow, walk: Walk): Promise<Read | null> {
  const one = await attempt(store, row.stream, walk.seq, 1);
  if (one === null) walk.skip();
  return one;
}

async function attempt(store: Store, stream: string, after: number, limit: number): Promise<Read | null> {
  try {
    const events = await store.read(stream, after, limit);
    return { events, leaves: await store.leaves(stream, after, limit) };
  } catch (error) {
    if (error instanceof StoreUnavailable) throw error;
    return null;
  }
}

async function compareHead(store: Store, row: StreamRow, walk: Walk): Promise<void> {
  const beyond = await attempt(store, row.stream, row.head, 1);
  if (beyond?.events.length === 0) return;
  const now = await store.stream(row, row.stream);
  if (now?.head === row.head)
    walk.find('L1', row.head + 1, `the row names ${row.head} as head, the log goes on`);
}

function compareSummary(row: StreamRow, walk: Walk): void {
  const message = row.erased ? null : summaryProblem(walk.summary, row.summary);
  if (message !== null) walk.find('L1', null, message);
}

type Refold = { snapshot: Snapshot; state: SessionState };

/** Another release's snapshot is nobody's to judge: this one does not read it either. */
function refoldUpTo(snapshot: Snapshot | null): Refold | null {
  return snapshot?.reader === snapshotReader ? { snapshot, state: initialState } : null;
}

function compareSnapshot(refold: Refold | null, walk: Walk): void {
  if (refold === null || refold.snapshot.seq > walk.seq) return;
  const { seq, data } = refold.snapshot;
  const folded = JSON.parse(JSON.stringify(encodeState(refold.state))) as JsonObject;
  const names = Object.keys({ ...data, ...folded }).filter((name) => differs(name, folded, data));
  if (names.length > 0) walk.find('L1', seq, `its snapshot differs from the log in ${names.join(', ')}`);
  else if (decodeState(data) === null) walk.find('L1', seq, 'its snapshot is not a state');
}

function summaryProblem(rebuilt: JsonObject | null, stored: JsonObject | null): string | null {
  if (rebuilt === null || canonicalJson(rebuilt) === canonicalJson(stored)) return null;
  if (stored === null) return 'the stored summary is missing or can not be opened';
  const names = Object.keys({ ...stored, ...rebuilt }).filter((name) => differs(name, rebuilt, stored));
  return `the stored summary differs from the rebuilt one in ${names.join(', ')}`;
}

function differs(name: string, a: JsonObject | null, b: JsonObject | null): boolean {
  return canonicalJson(a?.[name] ?? null) !== canonicalJson(b?.[name] ?? null);
}
