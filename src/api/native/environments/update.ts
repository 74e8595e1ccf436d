import { networkProblem } from '../../../guard/network-policy.ts';
import { configProblem, environment, environmentUpdateParams } from '../../../protocol/environments.ts';
import { problem } from '../../../protocol/errors.ts';
import { maxMetadataPairs } from '../../../protocol/fields.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { canonicalJson } from '../../../protocol/json.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { putOf } from '../../rows.ts';
import type { EnvironmentBody } from './body.ts';
import { shownEnvironment, updatedEnvironment } from './body.ts';
import { limitsRefusal } from './limits.ts';

/** Affects only sessions created afterwards: a session pins what it began with. */
export const updateEnvironment = operation({
  id: 'updateEnvironment',
  method: 'post',
  path: '/v1/environments/{environment_id}',
  tag: 'environments',
  summary: 'Update an environment',
  body: environmentUpdateParams,
  response: environment,
  problems: [
    'invalid_request',
    'environment_not_found',
    'environment_archived',
    'conflict',
    'not_supported',
    'limit_out_of_range',
    'invalid_metadata',
    'idempotency_key_reused',
  ],
  run: (call) =>
    changeOrganization(call, async (_mint, nowMs) => {
      const id = call.params.environment_id ?? '';
      const row = await call.deps.store.resource(call.principal.tenant, 'environment', id);
      if (!row) return problem('environment_not_found', `There is no environment ${id}.`);
      if (row.archivedAt !== null)
        return problem('environment_archived', 'This environment is archived and can not be changed.');
      const after = updatedEnvironment(row.body as unknown as EnvironmentBody, call.body);
      const refusal = limitsRefusal(call.deps, after.config.limits);
      if (refusal) return refusal;
      const flaw = configProblem(after.config);
      if (flaw !== null) return problem('not_supported', flaw);
      const unkept = networkProblem(after.config.networking);
      if (unkept !== null) return problem('invalid_request', unkept);
      if (Object.keys(after.metadata).length > maxMetadataPairs) {
        return problem('invalid_metadata', `metadata: at most ${maxMetadataPairs} pairs`);
      }
      if (canonicalJson(after as JsonObject) === canonicalJson(row.body)) {
        return { event: null, answer: shownEnvironment(row) };
      }
      const put = putOf(row, {
        version: row.version + 1,
        body: after as JsonObject,
        uniqueName: after.name,
        updatedAt: new Date(nowMs).toISOString(),
      });
      return {
        event: { type: 'environment.updated', facts: { environment_id: id, name: after.name } },
        resources: [put],
        answer: shownEnvironment(put),
      };
    }),
});
