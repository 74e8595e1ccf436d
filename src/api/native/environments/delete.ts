import { problem } from '../../../protocol/errors.ts';
import { deletedOf } from '../../../protocol/pages.ts';
import type { Store, Tenant } from '../../../store/store.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';

export const deleteEnvironment = operation({
  id: 'deleteEnvironment',
  method: 'delete',
  path: '/v1/environments/{environment_id}',
  tag: 'environments',
  summary: 'Delete an environment that no session refers to',
  response: deletedOf('environment_deleted'),
  problems: ['environment_not_found', 'invalid_request', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async () => {
      const id = call.params.environment_id ?? '';
      const { store } = call.deps;
      const row = await store.resource(call.principal.tenant, 'environment', id);
      if (!row) return problem('environment_not_found', `There is no environment ${id}.`);
      const session = await sessionIn(store, call.principal.tenant, id);
      if (session !== null) {
        return problem(
          'invalid_request',
          `Session ${session} refers to this environment: delete it first, or archive the environment.`,
        );
      }
      return {
        event: { type: 'environment.deleted', facts: { environment_id: id } },
        deleteResources: [{ kind: 'environment', id }],
        answer: { id, type: 'environment_deleted' },
      };
    }),
});

const pageSize = 200;

/**
 * A session that refers to the environment, or null. Walks the sessions: deleting an environment is rare. One created
 * at this very moment may slip through; it has the environment pinned, so it lacks nothing.
 */
async function sessionIn(store: Store, tenant: Tenant, environmentId: string): Promise<string | null> {
  let after: { createdAt: string; stream: string } | undefined;
  for (;;) {
    const rows = await store.listStreams({
      ...tenant,
      kind: 'session',
      includeArchived: true,
      order: 'desc',
      ...(after ? { after } : {}),
      limit: pageSize,
    });
    const found = rows.find((row) => row.summary?.environment_id === environmentId);
    if (found) return found.stream;
    const last = rows.at(-1);
    if (!last || rows.length < pageSize) return null;
    after = { createdAt: last.createdAt, stream: last.stream };
  }
}
