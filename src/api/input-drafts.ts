/** From the events a client sends to drafts of the log: optional nulls dropped, ids minted, attributed. Pure but for ids. */
import type { ContentBlock } from '../protocol/content.ts';
import type { ContentBlockParams } from '../protocol/content-params.ts';
import type { InputEventParams } from '../protocol/input-events.ts';
import type { InputEvent } from '../session/accept.ts';
import type { MintId } from './request-key.ts';
import { inputDraft } from './session-act.ts';

/** The events of a request that came from the client; the others follow from them. */
export function isInput(event: { type: string }): boolean {
  return event.type.startsWith('user.');
}

/** A session that rested takes up work: said with the input itself, not a moment later. */
export function runningDrafts(agentName: string, origin: Omit<DraftOrigin, 'id'>, mint: MintId) {
  const thread = { session_thread_id: origin.thread, agent_name: agentName };
  return [
    inputDraft('session.status_running', {}, null, { ...origin, id: mint('event', 'running') }),
    inputDraft('session.thread_status_running', thread, null, {
      ...origin,
      id: mint('event', 'thread running'),
    }),
  ];
}

export type DraftOrigin = { id: string; actor: string; thread: string };

export function draftOf(event: InputEventParams, origin: DraftOrigin): InputEvent {
  switch (event.type) {
    case 'user.message': {
      const delivery = event.delivery === undefined ? {} : { delivery: event.delivery };
      return inputDraft('user.message', { content: event.content.map(blockOf), ...delivery }, null, origin);
    }
    case 'user.interrupt': {
      const { session_thread_id } = event;
      return inputDraft(
        'user.interrupt',
        session_thread_id == null ? {} : { session_thread_id },
        null,
        origin,
      );
    }
    case 'user.tool_confirmation': {
      const { tool_use_id, result, deny_message } = event;
      const reason = deny_message == null ? {} : { deny_message };
      return inputDraft('user.tool_confirmation', { tool_use_id, result, ...reason }, null, origin);
    }
    case 'user.network_access': {
      const { host, port, result } = event;
      const place = { host: host.toLowerCase().replace(/\.$/, ''), ...(port === undefined ? {} : { port }) };
      return inputDraft('user.network_access', { ...place, result }, null, origin);
    }
    case 'user.custom_tool_result': {
      const { custom_tool_use_id, content, is_error } = event;
      const payload = {
        custom_tool_use_id,
        ...(content == null ? {} : { content: content.map(blockOf) }),
        ...(is_error == null ? {} : { is_error }),
      };
      return inputDraft('user.custom_tool_result', payload, null, origin);
    }
  }
}

function blockOf(block: ContentBlockParams): ContentBlock {
  if (block.type !== 'document') return block;
  const { title, context, source } = block;
  return {
    type: 'document',
    source,
    ...(title == null ? {} : { title }),
    ...(context == null ? {} : { context }),
  };
}
