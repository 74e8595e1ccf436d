import { rollbackParams } from '../../../protocol/environment-builds.ts';
import { environment } from '../../../protocol/environments.ts';
import { problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { canonicalJson } from '../../../protocol/json.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { putOf } from '../../rows.ts';
import type { EnvironmentBody } from './body.ts';
import { shownEnvironment } from './body.ts';
import { limitsRefusal } from './limits.ts';

/** History only grows: what an earlier version said is said again by a new one. Name and metadata stay. */
export const rollBackEnvironment = operation({
  id: 'rollBackEnvironment',
  method: 'post',
  path: '/v1/environments/{environment_id}/rollback',
  tag: 'environments',
  summary: 'Make the config of an earlier version that of a new version',
  body: rollbackParams,
  response: environment,
  problems: [
    'environment_not_found',
    'environment_archived',
    'not_found',
    'invalid_request',
    'idempotency_key_reused',
  ],
  run: (call) =>
    changeOrganization(call, async (_mint, nowMs) => {
      const id = call.params.environment_id ?? '';
      const { store } = call.deps;
      const { tenant } = call.principal;
      const row = await store.resource(tenant, 'environment', id);
      if (!row) return problem('environment_not_found', `There is no environment ${id}.`);
      if (row.archivedAt !== null)
        return problem('environment_archived', 'This environment is archived and can not be changed.');
      const { version } = call.body;
      const earlier = version < row.version && (await store.resource(tenant, 'environment', id, version));
      if (!earlier)
        return problem('not_found', `version: there is no version ${version} before version ${row.version}.`);
      const before = row.body as unknown as EnvironmentBody;
      const { config } = earlier.body as unknown as EnvironmentBody;
      const refusal = limitsRefusal(call.deps, config.limits);
      if (refusal) return refusal;
      if (canonicalJson(config as JsonObject) === canonicalJson(before.config as JsonObject))
        return { event: null, answer: shownEnvironment(row) };
      const put = putOf(row, {
        version: row.version + 1,
        body: { ...before, config } as JsonObject,
        updatedAt: new Date(nowMs).toISOString(),
      });
      return {
        event: { type: 'environment.rolled_back', facts: { environment_id: id, to_version: version } },
        resources: [put],
        answer: shownEnvironment(put),
      };
    }),
});
