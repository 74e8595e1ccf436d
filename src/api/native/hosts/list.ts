import { z } from 'zod';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';

const host = z.looseObject({
  id: z.string(),
  type: z.literal('host'),
  status: z.enum(['connected', 'away', 'lost']),
  sandboxes: z.int(),
  last_seen_at: z.string().nullable(),
});

/** Ours: the machines whose sandboxes this deployment uses. */
export const listHosts = operation({
  id: 'listHosts',
  method: 'get',
  path: '/v1/hosts',
  tag: 'server',
  summary: 'List the hosts of sandboxes',
  response: z.looseObject({ data: z.array(host) }),
  problems: ['unavailable'],
  async run({ deps }) {
    const { fleet } = deps;
    if (!fleet) return problem('unavailable', 'This server does not know its hosts.');
    const lost = new Map((await fleet.lost()).map((one) => [one.id, one]));
    const known = (await fleet.hosts()).filter(({ id }) => !lost.has(id));
    const present = known.map(({ id, isConnected, sandboxes, lastSeenMs }) => ({
      ...{ id, type: 'host', status: isConnected ? 'connected' : 'away', sandboxes },
      last_seen_at: new Date(lastSeenMs).toISOString(),
    }));
    const gone = [...lost.values()].map(({ id, lostAt, by, reason }) => ({
      ...{ id, type: 'host', status: 'lost', sandboxes: 0, last_seen_at: null },
      ...{ lost_at: lostAt, by, reason },
    }));
    return { body: { data: [...present, ...gone] } };
  },
});
