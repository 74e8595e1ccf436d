import { problem } from '../../../protocol/errors.ts';
import { maxMetadataPairs, patchMetadata } from '../../../protocol/fields.ts';
import { canonicalJson } from '../../../protocol/json.ts';
import { session, sessionUpdateParams } from '../../../protocol/sessions.ts';
import type { EventBodies } from '../../../session/events.ts';
import { operation } from '../../operation.ts';
import { actOnSession, inputDraft, toNewEvent } from '../../session-act.ts';
import { sessionView } from '../../session-view.ts';

/** Title and metadata; an effective change emits `session.updated` with what changed (§4.3). */
export const updateSession = operation({
  id: 'updateSession',
  method: 'post',
  path: '/v1/sessions/{session_id}',
  tag: 'sessions',
  summary: 'Update the title or the metadata of a session',
  body: sessionUpdateParams,
  response: session,
  problems: ['not_found', 'not_supported', 'invalid_metadata', 'idempotency_key_reused', 'contended'],
  run: (call) =>
    actOnSession(call, {
      prepare({ summary }, _state, mint) {
        if (summary.archived_at !== null) {
          return problem('invalid_request', 'This session is archived and can not be changed.');
        }
        const { title, metadata } = call.body;
        const change: EventBodies['session.updated']['P'] = {};
        if (title !== undefined && title !== summary.title) change.title = title;
        const patched = patchMetadata(summary.metadata, metadata ?? {});
        if (Object.keys(patched).length > maxMetadataPairs) {
          return problem('invalid_metadata', `metadata: at most ${maxMetadataPairs} pairs`);
        }
        if (canonicalJson(patched) !== canonicalJson(summary.metadata)) change.metadata = patched;
        if (Object.keys(change).length === 0) return { events: [] };
        const origin = { id: mint('event', 'updated'), actor: call.principal.actor, thread: null };
        return { events: [toNewEvent(inputDraft('session.updated', change, null, origin))] };
      },
      answer: async (id, _events, summary) => sessionView(id, await summary(), call.deps.now()),
    }),
});
