import { networkProblem } from '../../../guard/network-policy.ts';
import { configProblem, environment, environmentCreateParams } from '../../../protocol/environments.ts';
import { problem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { mergedLimits } from '../../../protocol/limits.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { environmentBody, shownEnvironment } from './body.ts';
import { limitsRefusal } from './limits.ts';

export const createEnvironment = operation({
  id: 'createEnvironment',
  method: 'post',
  path: '/v1/environments',
  tag: 'environments',
  summary: 'Create an environment',
  body: environmentCreateParams,
  response: environment,
  problems: [
    'invalid_request',
    'conflict',
    'not_supported',
    'limit_out_of_range',
    'invalid_metadata',
    'idempotency_key_reused',
  ],
  run: (call) =>
    changeOrganization(call, async (mint, nowMs) => {
      const refusal = limitsRefusal(call.deps, mergedLimits(undefined, call.body.config?.limits));
      if (refusal) return refusal;
      const id = mint('environment', 'environment');
      const time = new Date(nowMs).toISOString();
      const body = environmentBody(id, call.body);
      const flaw = configProblem(body.config);
      if (flaw !== null) return problem('not_supported', flaw);
      const unkept = networkProblem(body.config.networking);
      if (unkept !== null) return problem('invalid_request', unkept);
      const row = {
        kind: 'environment',
        id,
        version: 1,
        body: body as JsonObject,
        createdAt: time,
        updatedAt: time,
        archivedAt: null,
        uniqueName: call.body.name,
      };
      return {
        event: { type: 'environment.created', facts: { environment_id: id, name: call.body.name } },
        resources: [row],
        answer: shownEnvironment(row),
      };
    }),
});
