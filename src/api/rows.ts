/** Pages of resource rows, and the rows one operation needs. Rows hold the object as it is shown, less its life. */
import type { Problem } from '../protocol/errors.ts';
import { isProblem, problem } from '../protocol/errors.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { ListResources, Resource, ResourcePut, Store } from '../store/store.ts';
import { cursorOf, rowPositionOf } from './cursor.ts';

export type RowPage = { rows: Resource[]; next: string | null };

type PageRequest = Omit<ListResources, 'after' | 'limit'> & {
  /** Names the list in its cursors. */
  list: string;
  page: string | undefined;
  limit: number;
  keep?: (row: Resource) => boolean;
};

/** One request looks at no more rows than this; SDKs go on with `next_page`, even from an empty page. */
const maxScanned = 2000;

export async function readRowPage(store: Store, request: PageRequest): Promise<RowPage | Problem> {
  const { list, page, limit, keep = () => true, ...query } = request;
  const from = rowPositionOf(page, { list });
  if (from !== null && isProblem(from)) return from;
  const { gte, lte } = query.createdAt ?? {};
  if (from && ((gte !== undefined && from.createdAt < gte) || (lte !== undefined && from.createdAt > lte))) {
    return problem('invalid_request', 'query created_at: moved past the cursor; start again without page');
  }
  let after = from && { createdAt: from.createdAt, id: from.id, version: from.version ?? 0 };
  const rows: Resource[] = [];
  for (let scanned = 0; scanned < maxScanned; ) {
    const batch = await store.listResources({ ...query, ...(after ? { after } : {}), limit: limit + 1 });
    for (const row of batch) {
      if (keep(row)) {
        if (rows.length === limit && after) return { rows, next: cursorAfter(list, after) };
        rows.push(row);
      }
      after = { createdAt: row.createdAt, id: row.id, version: row.version };
    }
    if (batch.length <= limit) return { rows, next: null };
    scanned += batch.length;
  }
  return { rows, next: after ? cursorAfter(list, after) : null };
}

export function cursorAfter(list: string, after: { createdAt: string; id: string; version: number }): string {
  const { createdAt, id, version } = after;
  return cursorOf({ list, order: 'desc', way: 'on', createdAt, id, version });
}

/** What `store.append` takes, from a row or from parts. */
export function putOf(row: Resource, change: Partial<ResourcePut>): ResourcePut {
  const { organization: _organization, project: _project, ...put } = row;
  return { ...put, ...change };
}

/** The object of a row: its body and its life. */
export function shownRow(row: ResourcePut): JsonObject {
  return { ...row.body, created_at: row.createdAt, updated_at: row.updatedAt, archived_at: row.archivedAt };
}
