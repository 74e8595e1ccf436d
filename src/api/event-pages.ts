/**
 * Pages of a session's events, in either order. Sequences are gap-free, so a descending page reads the same windows from
 * the other end. `processed_at` is joined from the `input.processed` events that follow an input, wherever they are.
 */
import type { JsonObject } from '../protocol/json.ts';
import type { Store, StoredEvent } from '../store/store.ts';
import type { Order } from './cursor.ts';
import type { Viewer } from './event-view.ts';
import { isQueued, isVisible, processedBy, viewOf } from './event-view.ts';

export type TimeRange = {
  gt?: string | undefined;
  gte?: string | undefined;
  lt?: string | undefined;
  lte?: string | undefined;
};

export type EventQuery = {
  session: string;
  head: number;
  order: Order;
  /** Last sequence of the page before; null on the first page. */
  from: number | null;
  limit: number;
  types: ReadonlySet<string> | null;
  time: TimeRange;
  viewer: Viewer;
};

export type EventPage = { events: JsonObject[]; next: number | null };

const windowSize = 500;
/** Whoever reads backwards mostly wants the newest. */
const newestWindowSize = 64;

/** One request looks at no more events than this; a page may then be short, and says where to go on. */
const maxScanned = 20_000;

type Reader = Pick<Store, 'read'>;

export async function readEventPage(store: Reader, query: EventQuery): Promise<EventPage> {
  const times = new ProcessedTimes(store, query.session, query.head);
  const events: JsonObject[] = [];
  let last = query.from ?? (query.order === 'asc' ? 0 : query.head + 1);
  for (let scanned = 0; scanned < maxScanned; ) {
    const window = await readWindow(store, query, last);
    if (window.length === 0) return { events, next: null };
    for (const event of window) {
      const view = await match(event, query, times);
      // One beyond the limit is how we know of a next page; it is read again there.
      if (view !== null && events.length === query.limit) return { events, next: last };
      last = event.seq;
      if (view !== null) events.push(view);
      // Of a few types the next one may be the whole log away: whether there is one is the next page's to say.
      if (query.types !== null && events.length === query.limit)
        return { events, next: isEnd(query, last) ? null : last };
    }
    scanned += window.length;
  }
  return { events, next: last };
}

function isEnd({ order, head }: EventQuery, last: number): boolean {
  return order === 'asc' ? last >= head : last <= 1;
}

async function readWindow(store: Reader, query: EventQuery, last: number): Promise<StoredEvent[]> {
  if (query.order === 'asc') {
    const window = await store.read(query.session, last, windowSize);
    return window.filter((event) => event.seq <= query.head);
  }
  const below = Math.max(0, last - 1 - (last > query.head ? newestWindowSize : windowSize));
  const window = await store.read(query.session, below, last - 1 - below);
  return window.toReversed();
}

async function match(
  event: StoredEvent,
  query: EventQuery,
  times: ProcessedTimes,
): Promise<JsonObject | null> {
  if (!isVisible(event, query.viewer)) return null;
  if (query.types !== null && !query.types.has(event.type)) return null;
  const processedAt = isQueued(event.type) ? await times.of(event) : event.time;
  // An input still in the queue is placed by when it came.
  return isWithin(processedAt ?? event.time, query.time) ? viewOf(event, processedAt) : null;
}

export function isWithin(time: string, { gt, gte, lt, lte }: TimeRange): boolean {
  if (gt !== undefined && !(time > gt)) return false;
  if (gte !== undefined && !(time >= gte)) return false;
  if (lt !== undefined && !(time < lt)) return false;
  return lte === undefined || time <= lte;
}

/** Looks forward from an input for the event that processed it; each part of the log is read once per page. */
class ProcessedTimes {
  readonly #known = new Map<string, string>();
  readonly #read: [from: number, to: number][] = [];
  readonly #store: Reader;
  readonly #session: string;
  readonly #head: number;

  constructor(store: Reader, session: string, head: number) {
    this.#store = store;
    this.#session = session;
    this.#head = head;
  }

  async of(input: StoredEvent): Promise<string | null> {
    let position = input.seq;
    for (;;) {
      const known = this.#known.get(input.id);
      if (known !== undefined) return known;
      position = this.#beyond(position);
      if (position >= this.#head) return null;
      const events = await this.#store.read(this.#session, position, windowSize);
      if (events.length === 0) return null;
      for (const event of events) {
        for (const id of processedBy(event)) this.#known.set(id, event.time);
      }
      const end = events.at(-1)?.seq ?? position;
      this.#read.push([position, end]);
      position = end;
    }
  }

  /** The end of what was read from `position` on without a gap. */
  #beyond(position: number): number {
    const covering = this.#read.find(([from, to]) => from <= position && position < to);
    return covering === undefined ? position : this.#beyond(covering[1]);
  }
}
