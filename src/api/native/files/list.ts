/** List files (managed-agents-protocol.md §6.1): in pages, by ids or by the session they belong to. */
import { z } from 'zod';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { file } from '../../../protocol/files.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { page, pageOf, wholeNumber } from '../../../protocol/pages.ts';
import type { Resource } from '../../../store/store.ts';
import type { Answer, Call } from '../../operation.ts';
import { operation } from '../../operation.ts';
import { listOf } from '../../query.ts';
import { cursorAfter, readRowPage } from '../../rows.ts';
import { shownFile } from './row.ts';

const query = z
  .object({
    limit: wholeNumber(1, 1000).optional(),
    page: page.optional(),
    scope_id: z.string().min(1).optional(),
    ids: listOf(z.string().min(1)).optional(),
    /** How 0.x SDKs page. */
    after_id: z.string().min(1).optional(),
  })
  .superRefine((value, context) => {
    if (
      value.ids !== undefined &&
      (value.page !== undefined || value.limit !== undefined || value.after_id !== undefined)
    ) {
      context.addIssue({ code: 'custom', path: ['ids'], message: 'not together with page or limit' });
    }
  });

type ListCall = Call<z.infer<typeof query>, unknown>;

export const listFiles = operation({
  id: 'listFiles',
  method: 'get',
  path: '/v1/files',
  tag: 'files',
  summary: 'List files, newest first',
  query,
  response: pageOf(file),
  async run(call) {
    if (call.query.ids !== undefined) return listByIds(call, call.query.ids);
    const from = await startOf(call);
    if (typeof from === 'object' && isProblem(from)) return from;
    const scope = call.query.scope_id;
    const result = await readRowPage(call.deps.store, {
      ...call.principal.tenant,
      kind: 'file',
      list: 'files',
      page: from,
      limit: call.query.limit ?? 20,
      keep: (row) => scope === undefined || scopeOf(row) === scope,
    });
    return isProblem(result) ? result : pageAnswer(result.rows.map(shownFile), result.next);
  },
});

/** One page; ids nobody has are left out. */
async function listByIds(call: ListCall, ids: string[]): Promise<Answer> {
  const rows = await Promise.all(
    [...new Set(ids)].map((id) => call.deps.store.resource(call.principal.tenant, 'file', id)),
  );
  const scope = call.query.scope_id;
  const kept = rows.filter((row) => row !== null && (scope === undefined || scopeOf(row) === scope));
  return pageAnswer(
    kept.map((row) => shownFile(row as Resource)),
    null,
  );
}

async function startOf({ deps, principal, query: { page: given, after_id } }: ListCall) {
  if (given !== undefined || after_id === undefined) return given;
  const row = await deps.store.resource(principal.tenant, 'file', after_id);
  return row
    ? cursorAfter('files', row)
    : problem('invalid_request', `query after_id: there is no file ${after_id}`);
}

/** With the members 0.x SDKs page by. */
function pageAnswer(data: JsonObject[], next: string | null): Answer {
  return {
    body: {
      data,
      next_page: next,
      has_more: next !== null,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
    },
  };
}

function scopeOf(row: Resource): string | undefined {
  return (row.body as { scope?: { id: string } | null }).scope?.id;
}
