/** List sessions (managed-agents-protocol.md §1.7, §4): a cursor that goes both ways. */
import { z } from 'zod';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { bidirectionalPageOf, instant, order, page, truth, wholeNumber } from '../../../protocol/pages.ts';
import { session, sessionStatuses } from '../../../protocol/sessions.ts';
import type { SessionSummary } from '../../../session/summary.ts';
import type { ListStreams, StreamRow, Tenant } from '../../../store/store.ts';
import type { Order, RowPosition } from '../../cursor.ts';
import { cursorOf, rowPositionOf } from '../../cursor.ts';
import type { TimeRange } from '../../event-pages.ts';
import { isWithin } from '../../event-pages.ts';
import type { Call } from '../../operation.ts';
import { operation } from '../../operation.ts';
import { listOf } from '../../query.ts';
import { sessionView } from '../../session-view.ts';

const query = z
  .object({
    agent_id: z.string().min(1).optional(),
    agent_version: wholeNumber(1, 999_999_999).optional(),
    deployment_id: z.string().min(1).optional(),
    memory_store_id: z.string().min(1).optional(),
    statuses: listOf(z.enum(sessionStatuses)).optional(),
    include_archived: truth.optional(),
    order: order.optional(),
    'created_at[gt]': instant.optional(),
    'created_at[gte]': instant.optional(),
    'created_at[lt]': instant.optional(),
    'created_at[lte]': instant.optional(),
    limit: wholeNumber(1, 100).optional(),
    page: page.optional(),
  })
  .superRefine((value, context) => {
    if (value.agent_version !== undefined && value.agent_id === undefined) {
      context.addIssue({ code: 'custom', path: ['agent_version'], message: 'only together with agent_id' });
    }
  });

type Query = z.infer<typeof query>;

export const listSessions = operation({
  id: 'listSessions',
  method: 'get',
  path: '/v1/sessions',
  tag: 'sessions',
  summary: 'List sessions, newest first',
  query,
  response: bidirectionalPageOf(session),
  async run(call) {
    const from = rowPositionOf(call.query.page, { list: 'sessions', order: call.query.order });
    if (from !== null && isProblem(from)) return from;
    const range = rangeOf(call.query);
    if (from && !isWithin(from.createdAt, range)) {
      return problem('invalid_request', 'query created_at: moved past the cursor; start again without page');
    }
    // There are no deployments and no memory stores, so no session belongs to one.
    const isNone = call.query.deployment_id !== undefined || call.query.memory_store_id !== undefined;
    const found = isNone ? { rows: [], next: null, prev: null } : await readPage(call, range, from);
    const data = found.rows.map((row) =>
      sessionView(row.stream, row.summary as unknown as SessionSummary, call.deps.now()),
    );
    return { body: { data, next_page: found.next, prev_page: found.prev } };
  },
});

type SessionPage = { rows: StreamRow[]; next: string | null; prev: string | null };

async function readPage(
  call: Call<Query, unknown>,
  range: TimeRange,
  from: RowPosition | null,
): Promise<SessionPage> {
  const shownOrder = call.query.order ?? from?.order ?? 'desc';
  const isBack = from?.way === 'back';
  const scan = await scanRows(call, range, isBack ? opposite(shownOrder) : shownOrder, from);
  const rows = isBack ? scan.rows.toReversed() : scan.rows;
  const edge = (row: { createdAt: string; stream: string } | undefined, way: RowPosition['way']) =>
    row
      ? cursorOf({ list: 'sessions', order: shownOrder, way, createdAt: row.createdAt, id: row.stream })
      : null;
  if (isBack) {
    return {
      rows,
      prev: scan.hasMore ? edge(rows[0], 'back') : null,
      next: edge(rows.at(-1) ?? scan.last, 'on'),
    };
  }
  return {
    rows,
    // A page may be short, even empty, and still have a next one: the scan is bounded.
    next: scan.hasMore ? edge(scan.last, 'on') : null,
    prev: from ? edge(rows[0], 'back') : null,
  };
}

const maxScanned = 2000;

type Scan = { rows: StreamRow[]; hasMore: boolean; last: { createdAt: string; stream: string } | undefined };

async function scanRows(
  call: Call<Query, unknown>,
  range: TimeRange,
  direction: Order,
  from: RowPosition | null,
): Promise<Scan> {
  const limit = call.query.limit ?? 20;
  const rows: StreamRow[] = [];
  let last = from ? { createdAt: from.createdAt, stream: from.id } : undefined;
  for (let scanned = 0; scanned < maxScanned; ) {
    const batch = await call.deps.store.listStreams({
      ...filterOf(call.principal.tenant, call.query, range),
      order: direction,
      ...(last ? { after: last } : {}),
      limit: limit + 1,
    });
    for (const row of batch) {
      if (isKept(row, call.query)) {
        if (rows.length === limit) return { rows, hasMore: true, last };
        rows.push(row);
      }
      last = { createdAt: row.createdAt, stream: row.stream };
    }
    if (batch.length <= limit) return { rows, hasMore: false, last };
    scanned += batch.length;
  }
  return { rows, hasMore: true, last };
}

function filterOf(
  tenant: Tenant,
  value: Query,
  range: TimeRange,
): Omit<ListStreams, 'order' | 'limit' | 'after'> {
  return {
    ...tenant,
    kind: 'session',
    includeArchived: value.include_archived ?? false,
    ...(value.agent_id === undefined ? {} : { agentId: value.agent_id }),
    ...(value.statuses && value.statuses.length > 0 ? { statuses: value.statuses } : {}),
    createdAt: Object.fromEntries(Object.entries(range).filter(([, bound]) => bound !== undefined)),
  };
}

/** What the store has no index for. */
function isKept(row: StreamRow, value: Query): boolean {
  if (row.erased || row.summary === null || row.summary.deleted === true) return false;
  return value.agent_version === undefined || row.summary.agent_version === value.agent_version;
}

function rangeOf(value: Query): TimeRange {
  return {
    gt: value['created_at[gt]'],
    gte: value['created_at[gte]'],
    lt: value['created_at[lt]'],
    lte: value['created_at[lte]'],
  };
}

function opposite(direction: Order): Order {
  return direction === 'asc' ? 'desc' : 'asc';
}
