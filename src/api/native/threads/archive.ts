import { isProblem, problem } from '../../../protocol/errors.ts';
import { sessionThread } from '../../../protocol/sessions.ts';
import { operation } from '../../operation.ts';
import { threadView } from '../../session-view.ts';
import { findThread } from '../events/viewing.ts';

/** The primary thread lives as long as its session; there are no others to archive yet. */
export const archiveThread = operation({
  id: 'archiveThread',
  method: 'post',
  path: '/v1/sessions/{session_id}/threads/{thread_id}/archive',
  tag: 'threads',
  summary: 'Archive a thread (the primary one is archived with its session)',
  response: sessionThread,
  problems: ['not_found', 'invalid_request'],
  async run(call) {
    const found = await findThread(call);
    if (isProblem(found)) return found;
    if (found.summary.archived_at !== null)
      return { body: threadView(found.id, found.summary, call.deps.now()) };
    return problem(
      'invalid_request',
      'The primary thread is archived with its session: archive the session.',
    );
  },
});
