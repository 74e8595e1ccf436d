/**
 * Send events (managed-agents-protocol.md §5.3): all or none. Each is accepted on the state with the earlier ones folded
 * in, so `[user.interrupt, user.message]` means what it says.
 */
import { problem } from '../../../protocol/errors.ts';
import { sendEventsParams } from '../../../protocol/input-events.ts';
import { sentEvents } from '../../../protocol/session-events.ts';
import { accept, beginsWork } from '../../../session/accept.ts';
import { fold } from '../../../session/fold.ts';
import { freshViewOf } from '../../event-view.ts';
import { draftOf, isInput, runningDrafts } from '../../input-drafts.ts';
import { operation } from '../../operation.ts';
import { actOnSession, toNewEvent } from '../../session-act.ts';

export const sendEvents = operation({
  id: 'sendEvents',
  method: 'post',
  path: '/v1/sessions/{session_id}/events',
  tag: 'events',
  summary: 'Send events to a session',
  body: sendEventsParams,
  response: sentEvents,
  problems: ['not_found', 'not_supported', 'idempotency_key_reused', 'contended'],
  run: (call) =>
    actOnSession(call, {
      prepare(found, before, mint) {
        let state = before;
        const events = [];
        for (const [index, params] of call.body.events.entries()) {
          const draft = draftOf(params, {
            id: mint('event', `input ${index}`),
            actor: call.principal.actor,
            thread: found.summary.thread_id,
          });
          const accepted = accept(state, draft);
          if (!accepted.ok) return problem('invalid_request', `events.${index}: ${accepted.message}`);
          state = fold(state, { ...draft, seq: state.seq + 1 });
          events.push(toNewEvent(draft));
        }
        if (beginsWork(state)) {
          const origin = { actor: call.principal.actor, thread: found.summary.thread_id };
          events.push(...runningDrafts(String(found.summary.agent.name), origin, mint).map(toNewEvent));
        }
        return { events };
      },
      answer: (_session, events) => ({ data: events.filter(isInput).map(freshViewOf) }),
    }),
});
