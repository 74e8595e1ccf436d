import { problem } from '../../../protocol/errors.ts';
import { deletedOf } from '../../../protocol/pages.ts';
import type { Store, Tenant } from '../../../store/store.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, isBusy, toNewEvent } from '../../session-act.ts';

/** §4.4: a tombstone, and with it the key of the log and the session's own files. Uploads and agents survive. */
export const deleteSession = operation({
  id: 'deleteSession',
  method: 'delete',
  path: '/v1/sessions/{session_id}',
  tag: 'sessions',
  summary: 'Delete a session and everything that belongs to it alone',
  response: deletedOf('session_deleted'),
  problems: ['not_found', 'invalid_request', 'idempotency_key_reused', 'contended'],
  run: (call) =>
    actOnSession(call, {
      async prepare({ id, summary }, state, mint) {
        if (isBusy(state)) {
          return problem(
            'invalid_request',
            'This session is running: send user.interrupt, wait until it is idle, delete then.',
          );
        }
        const origin = {
          id: mint('event', 'deleted'),
          actor: call.principal.actor,
          thread: summary.thread_id,
        };
        const { hostId: host } = state.sandbox;
        const place = host === null ? {} : { host };
        return {
          events: [toNewEvent(inputDraft('session.deleted', {}, null, origin))],
          extra: {
            eraseStream: true,
            deleteResources: await filesOf(call.deps.store, call.principal.tenant, id),
            // S5: its processes and its disk go too, also when the host is away just now: that host is waited for.
            outbox: [{ id: `${id}/remove`, kind: 'sandbox.remove', body: { session: id, ...place } }],
          },
        };
      },
      answer: (id) => ({ id, type: 'session_deleted' }),
    }),
});

const pageSize = 500;

async function filesOf(
  store: Store,
  tenant: Tenant,
  session: string,
): Promise<{ kind: string; id: string }[]> {
  const files: { kind: string; id: string }[] = [];
  let after: { createdAt: string; id: string; version: number } | undefined;
  for (;;) {
    const rows = await store.listResources({
      ...tenant,
      kind: 'file',
      ...(after ? { after } : {}),
      limit: pageSize,
    });
    for (const row of rows) {
      const { scope } = row.body as { scope?: { id?: string } | null };
      if (scope?.id === session) files.push({ kind: 'file', id: row.id });
    }
    const last = rows.at(-1);
    if (!last || rows.length < pageSize) return files;
    after = { createdAt: last.createdAt, id: last.id, version: last.version };
  }
}
