import { z } from 'zod';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';

/**
 * Ours: an operator says that a machine will not come back. Its sessions go on elsewhere, from where they began; a host
 * that is connected is not lost, whatever anybody says.
 */
export const declareHostLost = operation({
  id: 'declareHostLost',
  method: 'post',
  path: '/v1/hosts/{host_id}/lost',
  tag: 'server',
  summary: 'Declare a host lost for good',
  body: z.strictObject({ reason: z.string().max(1000).optional() }),
  response: z.looseObject({ id: z.string(), type: z.literal('host'), status: z.literal('lost') }),
  problems: ['invalid_request', 'unavailable'],
  async run({ deps, params, principal, body }) {
    if (!deps.fleet) return problem('unavailable', 'This server does not know its hosts.');
    const id = params.host_id ?? '';
    if (!/^[a-z0-9][a-z0-9-]{0,40}~[0-9a-f]{10}$/.test(id))
      return problem('invalid_request', 'This is no id of a host: GET /v1/hosts lists them.');
    const host = (await deps.fleet.hosts()).find((one) => one.id === id);
    if (host?.isConnected === true)
      return problem('invalid_request', 'This host is connected. Stop it first, if it is to be given up.');
    await deps.fleet.declareLost(id, principal.actor, body.reason ?? 'declared by an operator');
    return { body: { id, type: 'host', status: 'lost' } };
  },
});
