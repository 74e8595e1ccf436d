/**
 * Live previews of what a model is saying (managed-agents-protocol.md §5.2): never stored, never replayed, without a
 * place in the log. The event they announce is authoritative and comes under the same id, or not at all.
 */
export const previewTypes = ['agent.message', 'agent.thinking'] as const;
export type PreviewType = (typeof previewTypes)[number];

export type EventStart = {
  type: 'event_start';
  event: { type: PreviewType; id: string };
  /** Ours: the request it belongs to, as `preview.superseded` names it. */
  model_request_start_id?: string;
};

export type EventDelta = {
  type: 'event_delta';
  event_id: string;
  /** `index` counts the content blocks of the message, contiguous from 0. */
  delta: { type: 'content_delta'; index: number; content: { type: 'text'; text: string } };
};

export type PreviewFrame = EventStart | EventDelta;

/** Where frames of one session can be heard. Listeners must not throw and must not block. */
export interface PreviewBus {
  subscribe(session: string, listener: (frame: PreviewFrame) => void): () => void;
}
