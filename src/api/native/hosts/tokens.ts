import { z } from 'zod';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';

const token = z.looseObject({
  name: z.string(),
  type: z.literal('host_token'),
  status: z.enum(['in_use', 'revoked']),
  hosts: z.array(z.string()),
});

/**
 * Ours: the host tokens that were used since the engines started, and all that were revoked. One that was minted and
 * never used is known to nobody but whoever has it.
 */
export const listHostTokens = operation({
  id: 'listHostTokens',
  method: 'get',
  path: '/v1/host_tokens',
  tag: 'server',
  summary: 'List the tokens with which hosts join',
  response: z.looseObject({ data: z.array(token) }),
  problems: ['not_supported'],
  async run({ deps }) {
    const { fleet } = deps;
    if (!fleet?.tokens)
      return problem('not_supported', 'No host joins this server: it is not one of a fleet.');
    const hosts = new Map<string, string[]>();
    for (const { id } of await fleet.hosts()) {
      const [name = ''] = id.split('~');
      hosts.set(name, [...(hosts.get(name) ?? []), id]);
    }
    const revoked = await fleet.tokens.revoked();
    const names = new Set(revoked.map(({ name }) => name));
    const used = [...hosts].flatMap(([name, ids]) =>
      names.has(name) ? [] : [{ name, type: 'host_token', status: 'in_use', hosts: ids }],
    );
    const gone = revoked.map(({ name, revokedAt, by, reason }) => ({
      ...{ name, type: 'host_token', status: 'revoked', hosts: hosts.get(name) ?? [] },
      ...{ revoked_at: revokedAt, by, reason },
    }));
    return { body: { data: [...used, ...gone] } };
  },
});
