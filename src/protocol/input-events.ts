/** Events a client may send (managed-agents-protocol.md §5.3). When each is taken is `session/accept.ts`'s to say. */
import { z } from 'zod';
import { contentBlockParams } from './content-params.ts';
import { unavailable } from './fields.ts';
import { hostPattern } from './hosts.ts';

/** Most events of one request; the body limit bounds their size. */
export const maxEventsPerSend = 100;

const userMessage = z.strictObject({
  type: z.literal('user.message'),
  content: z.array(contentBlockParams).min(1).max(1000),
  /** Ours: `steer` joins the running turn at its next model call, `queue` (the protocol's way) starts the next turn. */
  delivery: z.enum(['queue', 'steer']).optional(),
});

const userInterrupt = z.strictObject({
  type: z.literal('user.interrupt'),
  session_thread_id: z.string().min(1).nullish(),
});

const userToolConfirmation = z
  .strictObject({
    type: z.literal('user.tool_confirmation'),
    tool_use_id: z.string().min(1),
    result: z.enum(['allow', 'deny']),
    deny_message: z.string().max(10_000).nullish(),
  })
  .superRefine((event, context) => {
    if (event.result === 'allow' && event.deny_message != null) {
      context.addIssue({
        code: 'custom',
        path: ['deny_message'],
        message: 'only together with result "deny"',
      });
    }
  });

const userCustomToolResult = z.strictObject({
  type: z.literal('user.custom_tool_result'),
  custom_tool_use_id: z.string().min(1),
  content: z.array(contentBlockParams).max(1000).nullish(),
  is_error: z.boolean().nullish(),
});

/** Ours: lets a running session reach a host, or not. It takes effect at once and lasts as long as the session. */
const userNetworkAccess = z.strictObject({
  type: z.literal('user.network_access'),
  host: hostPattern.refine(
    (host) => !host.startsWith('*.'),
    'one host: wildcards belong into the environment',
  ),
  /** Absent: 80 and 443. */
  port: z.int().min(1).max(65_535).optional(),
  result: z.enum(['allow', 'deny']),
});

const refusals: Record<string, string> = {
  'user.define_outcome': unavailable('outcomes are', 'send a user.message'),
  'user.tool_result':
    'user.tool_result is only for self_hosted environments: built-in tools run on this server',
  'system.message': unavailable('system messages are', 'put the text in the agent or in a user.message'),
};

function refusedEvent(input: unknown): string | undefined {
  const type = input !== null && typeof input === 'object' && 'type' in input ? input.type : undefined;
  return typeof type === 'string' && Object.hasOwn(refusals, type) ? refusals[type] : undefined;
}

export const inputEventParams = z.discriminatedUnion(
  'type',
  [userMessage, userInterrupt, userToolConfirmation, userCustomToolResult, userNetworkAccess],
  { error: (issue) => refusedEvent(issue.input) },
);

export const sendEventsParams = z.strictObject({
  events: z.array(inputEventParams).min(1).max(maxEventsPerSend),
});

/** `initial_events` of a new session (§4.1). */
export const initialEventParams = z.discriminatedUnion('type', [userMessage], {
  error: (issue) => refusedEvent(issue.input) ?? 'only user.message may be among initial_events',
});

export type InputEventParams = z.infer<typeof inputEventParams>;
