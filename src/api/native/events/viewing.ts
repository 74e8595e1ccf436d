/** Parameters that the event lists and streams of sessions and of threads share. */
import { z } from 'zod';
import type { Problem } from '../../../protocol/errors.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { page, wholeNumber } from '../../../protocol/pages.ts';
import type { PreviewType } from '../../../protocol/previews.ts';
import { previewTypes } from '../../../protocol/previews.ts';
import type { Order } from '../../cursor.ts';
import { cursorOf, seqPositionOf } from '../../cursor.ts';
import type { TimeRange } from '../../event-pages.ts';
import { readEventPage } from '../../event-pages.ts';
import type { Viewer } from '../../event-view.ts';
import type { Answer, Incoming } from '../../operation.ts';
import { listOf } from '../../query.ts';
import type { FoundSession } from '../../session-act.ts';
import { findSession } from '../../session-act.ts';
import { eventStream } from '../../sse.ts';

export const pageQuery = { limit: wholeNumber(1, 1000).optional(), page: page.optional() };

export const streamQuery = z.object({
  event_deltas: listOf(z.enum(previewTypes)).optional(),
  /** Ours: a sequence (the `id:` of a frame) or an event id; events after it are sent. */
  after: z.string().max(100).optional(),
});

type ListRequest = {
  found: FoundSession;
  viewer: Viewer;
  list: string;
  query: { order?: Order | undefined; limit?: number | undefined; page?: string | undefined };
  types: string[] | undefined;
  time: TimeRange;
};

export async function answerPage(incoming: Incoming, request: ListRequest): Promise<Answer> {
  const { found, query } = request;
  const from = seqPositionOf(query.page, { list: request.list, order: query.order });
  if (from !== null && isProblem(from)) return from;
  const order = query.order ?? from?.order ?? 'asc';
  const result = await readEventPage(incoming.deps.store, {
    session: found.id,
    head: found.row.head,
    order,
    from: from?.seq ?? null,
    limit: query.limit ?? 1000,
    types: request.types && request.types.length > 0 ? new Set(request.types) : null,
    time: request.time,
    viewer: request.viewer,
  });
  const next_page = result.next === null ? null : cursorOf({ list: request.list, order, seq: result.next });
  return { body: { data: result.events, next_page } };
}

type StreamParams = { event_deltas?: PreviewType[] | undefined; after?: string | undefined };

/** The thread of the path, which can only be the primary one. */
export async function findThread(incoming: Incoming): Promise<FoundSession | Problem> {
  const found = await findSession(incoming);
  if (isProblem(found)) return found;
  const id = incoming.params.thread_id ?? '';
  return found.summary.thread_id === id
    ? found
    : problem('not_found', `There is no thread ${id} in this session.`);
}

export async function answerStream(
  incoming: Incoming,
  found: FoundSession,
  viewer: Viewer,
  query: StreamParams,
): Promise<Answer> {
  // EventSource repeats the position it reached in this header; it is later than the one in its URL.
  const position = incoming.request.headers.get('last-event-id') ?? query.after ?? null;
  const after = position === null ? found.row.head : await sequenceOf(incoming, found, position);
  if (typeof after !== 'number') return after;
  const previews = new Set(query.event_deltas);
  return eventStream(incoming, { session: found.id, after, viewer, previews, requestId: incoming.requestId });
}

async function sequenceOf(
  incoming: Incoming,
  found: FoundSession,
  position: string,
): Promise<number | Problem> {
  if (/^\d{1,15}$/.test(position) && Number(position) <= found.row.head) return Number(position);
  const event = position.startsWith('sevt_') ? await incoming.deps.store.readById(found.id, position) : null;
  return event
    ? event.seq
    : problem('invalid_request', 'after / Last-Event-ID: is not a position in this session');
}
