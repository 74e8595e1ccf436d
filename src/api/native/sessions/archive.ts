import { problem } from '../../../protocol/errors.ts';
import { session } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, isBusy, toNewEvent } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';

/** §4.4: refused while it works; history is kept, no further events are taken. */
export const archiveSession = operation({
  id: 'archiveSession',
  method: 'post',
  path: '/v1/sessions/{session_id}/archive',
  tag: 'sessions',
  summary: 'Archive a session',
  response: session,
  problems: ['not_found', 'invalid_request', 'idempotency_key_reused', 'contended'],
  run: (call) =>
    actOnSession(call, {
      prepare({ summary }, state, mint) {
        if (summary.archived_at !== null) return { events: [] };
        if (isBusy(state)) {
          return problem(
            'invalid_request',
            'This session is running: send user.interrupt, wait until it is idle, archive then.',
          );
        }
        const thread = summary.thread_id;
        const agentName = String(summary.agent.name ?? '');
        const origin = (label: string) => ({ id: mint('event', label), actor: call.principal.actor, thread });
        const status = { session_thread_id: thread, agent_name: agentName };
        const terminated = [
          inputDraft('session.thread_status_terminated', status, null, origin('thread terminated')),
          inputDraft('session.status_terminated', {}, null, origin('terminated')),
        ];
        const archived = inputDraft('session.archived', {}, null, {
          ...origin('archived'),
          audience: 'operator',
        });
        // A session that a fatal error ended has said so already.
        return { events: [...(state.status === 'terminated' ? [] : terminated), archived].map(toNewEvent) };
      },
      answer: async (id, _events, summary) => sessionView(id, await summary(), call.deps.now()),
    }),
});
