import { z } from 'zod';
import { problem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';

/** Ours: the processes that drive sessions now. */
export const listWorkers = operation({
  id: 'listWorkers',
  method: 'get',
  path: '/v1/workers',
  tag: 'server',
  summary: 'List the living workers',
  response: z.looseObject({ data: z.array(z.looseObject({ id: z.string(), type: z.literal('worker') })) }),
  problems: ['unavailable'],
  async run({ deps }) {
    if (!deps.fleet) return problem('unavailable', 'This server does not know its workers.');
    const workers = await deps.fleet.workers();
    return { body: { data: workers.map(({ worker, info }) => ({ id: worker, type: 'worker', info })) } };
  },
});
