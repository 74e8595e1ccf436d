/**
 * Events of a log as frames of a stream, rendered once for all connections that were given the same read.
 *
 * A queued input is sent when it arrives and again, with `processed_at`, when it is taken up.
 */
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { Store, StoredEvent } from '../store/store.ts';
import type { Viewer } from './event-view.ts';
import { freshViewOf, isVisible, processedBy, viewOf } from './event-view.ts';

/** Frames that are sent at once; bounded in length unless a single event is not. */
export type Piece = {
  text: string;
  /** The last event in it, shown or not. */
  seq: number;
  /** Ids of the events it shows for the first time. */
  shown: string[];
  /** The session is deleted: nothing comes after this. */
  isEnd: boolean;
};

const pieceChars = 65_536;
const rendered = new WeakMap<readonly StoredEvent[], Map<string, Promise<Piece[]>>>();

/** The pieces of one read, in order; empty where it was. */
export function piecesOf(
  store: Pick<Store, 'readById'>,
  events: readonly StoredEvent[],
  viewer: Viewer,
): Promise<Piece[]> {
  const viewers = rendered.get(events) ?? new Map<string, Promise<Piece[]>>();
  rendered.set(events, viewers);
  const key = JSON.stringify([viewer.audience, viewer.thread]);
  const pieces = viewers.get(key) ?? render(store, events, viewer);
  viewers.set(key, pieces);
  return pieces;
}

async function render(
  store: Pick<Store, 'readById'>,
  events: readonly StoredEvent[],
  viewer: Viewer,
): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (const event of events) {
    const text = await framesOf(store, event, viewer);
    let piece = pieces.at(-1);
    if (piece === undefined || piece.text.length > pieceChars) {
      piece = { text: '', seq: event.seq, shown: [], isEnd: false };
      pieces.push(piece);
    }
    piece.seq = event.seq;
    if (isVisible(event, viewer)) piece.shown.push(event.id);
    if (!(failpoints.on && text !== '' && sabotaged('sabotage.skip-in-stream'))) piece.text += text;
    if (event.type === 'session.deleted') {
      piece.isEnd = true;
      break;
    }
  }
  return pieces;
}

async function framesOf(store: Pick<Store, 'readById'>, event: StoredEvent, viewer: Viewer): Promise<string> {
  const views: JsonObject[] = [];
  if (isVisible(event, viewer)) views.push(freshViewOf(event));
  for (const id of processedBy(event)) {
    const input = await store.readById(event.stream, id);
    if (input && isVisible(input, viewer)) views.push(viewOf(input, event.time));
  }
  // Only the last frame carries the position: a connection cut in between sends them all again.
  return views.map((view, i) => frameOf(view, i === views.length - 1 ? event.seq : null)).join('');
}

function frameOf(view: JsonObject, seq: number | null): string {
  const id = seq === null ? '' : `id: ${seq}\n`;
  return `event: ${String(view.type)}\n${id}data: ${JSON.stringify(view)}\n\n`;
}
