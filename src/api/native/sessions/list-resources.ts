import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import type { JsonObject } from '../../../protocol/json.ts';
import { page, pageOf, wholeNumber } from '../../../protocol/pages.ts';
import { sessionResource } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';

/** All of them in one page: a session has at most 500. */
export const listSessionResources = operation({
  id: 'listSessionResources',
  method: 'get',
  path: '/v1/sessions/{session_id}/resources',
  tag: 'sessions',
  summary: 'List what is mounted in a session',
  query: z.object({ limit: wholeNumber(1, 1000).optional(), page: page.optional() }),
  response: pageOf(sessionResource),
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const { resources } = sessionView(found.id, found.summary, call.deps.now());
    return { body: { data: resources as JsonObject[], next_page: null } };
  },
});
