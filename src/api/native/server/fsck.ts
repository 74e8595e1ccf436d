import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { page, pageOf } from '../../../protocol/pages.ts';
import { cursorOf, rowPositionOf } from '../../cursor.ts';
import { operation } from '../../operation.ts';

const list = 'fsck';

const finding = z.looseObject({
  type: z.literal('finding'),
  /** A session's id, or the organisation's. */
  stream: z.string(),
  seq: z.int().nullable(),
  promise: z.string(),
  message: z.string(),
});

/** Ours: what in this organisation's logs and projections is not as promised. One page reads a bounded part of them. */
export const fsck = operation({
  id: 'fsck',
  method: 'get',
  path: '/v1/fsck',
  tag: 'server',
  summary: 'Check the logs of an organisation and everything that is derived from them',
  query: z.object({ page: page.optional() }),
  response: pageOf(finding).extend({
    streams: z.int(),
    events: z.int(),
    /** Findings of this page beyond those in `data`. */
    omitted: z.int(),
  }),
  async run({ deps, principal, query }) {
    const from = rowPositionOf(query.page, { list });
    if (from !== null && isProblem(from)) return from;
    const after = from && { createdAt: from.createdAt, stream: from.id };
    const { streams, events, findings, omitted, next } = await deps.checks.fsck(principal.tenant, after);
    const data = findings.map(({ stream, seq, promise, message }) => ({
      type: 'finding',
      stream,
      seq,
      promise,
      message,
    }));
    const next_page =
      next && cursorOf({ list, order: 'asc', way: 'on', createdAt: next.createdAt, id: next.stream });
    return { body: { data, next_page, streams, events, omitted } };
  },
});
