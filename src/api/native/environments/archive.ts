import { environment } from '../../../protocol/environments.ts';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { putOf } from '../../rows.ts';
import { shownEnvironment } from './body.ts';

/** No new sessions; running ones go on. Its name is free again. */
export const archiveEnvironment = operation({
  id: 'archiveEnvironment',
  method: 'post',
  path: '/v1/environments/{environment_id}/archive',
  tag: 'environments',
  summary: 'Archive an environment',
  response: environment,
  problems: ['environment_not_found', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async (_mint, nowMs) => {
      const id = call.params.environment_id ?? '';
      const row = await call.deps.store.resource(call.principal.tenant, 'environment', id);
      if (!row) return problem('environment_not_found', `There is no environment ${id}.`);
      if (row.archivedAt !== null) return { event: null, answer: shownEnvironment(row) };
      const time = new Date(nowMs).toISOString();
      const put = putOf(row, { archivedAt: time, updatedAt: time, uniqueName: null });
      return {
        event: { type: 'environment.archived', facts: { environment_id: id } },
        resources: [put],
        answer: shownEnvironment(put),
      };
    }),
});
