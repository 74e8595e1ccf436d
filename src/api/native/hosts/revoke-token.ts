import { z } from 'zod';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';

/**
 * Ours: the token of this name opens nothing any more, and whoever is connected with it is cut off. For good: a token
 * follows from its name, so another one has another name.
 */
export const revokeHostToken = operation({
  id: 'revokeHostToken',
  method: 'post',
  path: '/v1/host_tokens/{name}/revoked',
  tag: 'server',
  summary: 'Revoke a host token for good',
  body: z.strictObject({ reason: z.string().max(1000).optional() }),
  response: z.looseObject({ name: z.string(), type: z.literal('host_token'), status: z.literal('revoked') }),
  problems: ['invalid_request', 'not_supported'],
  async run({ deps, params, principal, body }) {
    const tokens = deps.fleet?.tokens;
    if (!tokens) return problem('not_supported', 'No host joins this server: it is not one of a fleet.');
    const name = params.name ?? '';
    if (!/^[a-z0-9][a-z0-9-]{0,40}$/.test(name))
      return problem('invalid_request', 'This is no name of a host token: GET /v1/host_tokens lists them.');
    await tokens.revoke(name, principal.actor, body.reason ?? 'revoked by an operator');
    return { body: { name, type: 'host_token', status: 'revoked' } };
  },
});
