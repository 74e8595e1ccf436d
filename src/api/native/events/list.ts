import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { instant, order, pageOf } from '../../../protocol/pages.ts';
import { sessionEvent } from '../../../protocol/session-events.ts';
import { operation } from '../../operation.ts';
import { listOf } from '../../query.ts';
import { findSession } from '../../session-act.ts';
import { answerPage, pageQuery } from './viewing.ts';

export const listEvents = operation({
  id: 'listEvents',
  method: 'get',
  path: '/v1/sessions/{session_id}/events',
  tag: 'events',
  summary: 'List the events of a session, in the order of the log',
  query: z.object({
    types: listOf(z.string().max(100)).optional(),
    order: order.optional(),
    'created_at[gt]': instant.optional(),
    'created_at[gte]': instant.optional(),
    'created_at[lt]': instant.optional(),
    'created_at[lte]': instant.optional(),
    /** Ours: `operator` adds what the driver recorded. */
    audience: z.enum(['public', 'operator']).optional(),
    ...pageQuery,
  }),
  response: pageOf(sessionEvent),
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const { query } = call;
    return answerPage(call, {
      found,
      viewer: { audience: query.audience ?? 'public', thread: null },
      list: `events of ${found.id}`,
      query,
      types: query.types,
      time: {
        gt: query['created_at[gt]'],
        gte: query['created_at[gte]'],
        lt: query['created_at[lt]'],
        lte: query['created_at[lte]'],
      },
    });
  },
});
