/**
 * Events as they are shown (managed-agents-protocol.md §5.4), for the documents that describe the API. Objects are open:
 * readers are told to ignore members and types they do not know.
 */
import { z } from 'zod';
import { timestamp } from './fields.ts';
import { stopReason } from './sessions.ts';

const block = z.looseObject({ type: z.string() });
const content = z.array(block);
const permission = z.enum(['allow', 'ask', 'deny']);

function event<T extends string, S extends z.ZodRawShape>(type: T, shape: S) {
  return z.looseObject({ id: z.string(), type: z.literal(type), processed_at: timestamp, ...shape });
}

/** An input: `processed_at` is null until it is taken up. */
function input<T extends string, S extends z.ZodRawShape>(type: T, shape: S) {
  return z.looseObject({
    id: z.string(),
    type: z.literal(type),
    processed_at: timestamp.nullable(),
    ...shape,
  });
}

const onThread = { session_thread_id: z.string(), agent_name: z.string() };
const stopped = { stop_reason: stopReason, stop_details: z.looseObject({ type: z.string() }).nullable() };

export const sentEvent = z.discriminatedUnion('type', [
  input('user.message', { content }),
  input('user.interrupt', { session_thread_id: z.string().optional() }),
  input('user.tool_confirmation', {
    tool_use_id: z.string(),
    result: z.enum(['allow', 'deny']),
    deny_message: z.string().optional(),
  }),
  input('user.custom_tool_result', {
    custom_tool_use_id: z.string(),
    content: content.optional(),
    is_error: z.boolean().optional(),
  }),
  input('user.network_access', {
    host: z.string(),
    port: z.int().optional(),
    result: z.enum(['allow', 'deny']),
  }),
]);

const knownEvent = z.discriminatedUnion('type', [
  ...sentEvent.options,
  event('agent.thinking', {}),
  event('agent.message', { content }),
  event('agent.tool_use', {
    name: z.string(),
    input: z.looseObject({}),
    evaluated_permission: permission,
    evaluation: z.looseObject({ type: z.string() }).optional(),
  }),
  event('agent.tool_result', {
    tool_use_id: z.string(),
    content: content.optional(),
    is_error: z.boolean().optional(),
  }),
  event('agent.custom_tool_use', { name: z.string(), input: z.looseObject({}) }),
  event('session.status_running', {}),
  event('session.status_idle', stopped),
  event('session.status_rescheduled', {}),
  event('session.status_terminated', {}),
  event('session.thread_status_running', onThread),
  event('session.thread_status_idle', { ...onThread, ...stopped }),
  event('session.thread_status_rescheduled', onThread),
  event('session.thread_status_terminated', onThread),
  event('session.updated', { title: z.string().nullable().optional() }),
  event('session.usage', { usage: z.looseObject({}) }),
  event('session.error', {
    error: z.looseObject({
      type: z.string(),
      message: z.string(),
      retry_status: z.looseObject({ type: z.enum(['retrying', 'exhausted', 'terminal']) }),
    }),
  }),
  event('session.deleted', {}),
  event('session.forked', {
    from_session_id: z.string(),
    at_event_id: z.string(),
    checkpoint_id: z.string().nullable(),
  }),
  event('session.rolled_back', { checkpoint_id: z.string(), at_event_id: z.string() }),
  event('session.rollback_failed', { checkpoint_id: z.string(), message: z.string() }),
  event('sandbox.limit_reached', {
    limit: z.string(),
    value: z.number(),
    amount: z.number().nullable(),
    call_id: z.string().nullable(),
    message: z.string(),
    at: timestamp,
  }),
  event('network.decision', {
    decision: z.enum(['allowed', 'denied', 'asked']),
    protocol: z.string(),
    host: z.string(),
    port: z.int().nullable(),
    rule: z.string().nullable(),
    reason: z.string().nullable(),
    count: z.int(),
    bytes_sent: z.int(),
    bytes_received: z.int(),
  }),
  event('span.model_request_start', {}),
  event('span.model_request_end', {
    model_request_start_id: z.string(),
    is_error: z.boolean(),
    model_usage: z.looseObject({ input_tokens: z.int(), output_tokens: z.int() }),
  }),
]);

const otherEvent = z.looseObject({ id: z.string(), type: z.string(), processed_at: timestamp.nullable() });

export const sessionEvent = z.union([knownEvent, otherEvent]);
export const sentEvents = z.looseObject({ data: z.array(sentEvent) });
