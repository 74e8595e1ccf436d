import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { operation } from '../../operation.ts';
import { findSession } from '../../session-act.ts';

const sessionReplay = z.looseObject({
  type: z.literal('session_replay'),
  session_id: z.string(),
  events: z.int(),
  /** Model requests that were derived from the log and compared with what was sent. */
  requests: z.int(),
  /** Requests that were never rendered, because no provider was configured then. */
  unrendered: z.int(),
  first_difference: z
    .looseObject({
      /** Which of the requests, from 1. */
      request: z.int(),
      seq: z.int(),
      event_id: z.string(),
      recorded_sha256: z.string(),
      derived_sha256: z.string(),
    })
    .nullable(),
});

/** Ours: every model request of a session derived again from its log (L7). Nothing is called. */
export const replaySession = operation({
  id: 'replaySession',
  method: 'get',
  path: '/v1/sessions/{session_id}/replay',
  tag: 'sessions',
  summary: 'Derive every model request of a session again and compare it with the one that was sent',
  response: sessionReplay,
  problems: ['not_found'],
  async run(call) {
    const found = await findSession(call);
    if (isProblem(found)) return found;
    const { events, requests, unrendered, firstDifference } = await call.deps.checks.replay(found.id);
    return {
      body: {
        type: 'session_replay',
        session_id: found.id,
        events,
        requests,
        unrendered,
        first_difference: firstDifference && {
          request: firstDifference.request,
          seq: firstDifference.seq,
          event_id: firstDifference.eventId,
          recorded_sha256: firstDifference.recordedSha256,
          derived_sha256: firstDifference.derivedSha256,
        },
      },
    };
  },
});
