/**
 * The session row that lists and `GET` show: a projection, reduced event by event inside the append's own transaction,
 * so that a status is never behind the event that says it (L1, §5.1 of the protocol). Rebuilt from the log at will.
 */
import type { JsonObject } from '../protocol/json.ts';
import type { StopDetails, StopReason } from './events.ts';

export type SessionSummary = {
  /** `kind`, `agent_id`, `status` and `archived_at` are what the store lists by. */
  kind: 'session' | null;
  status: 'idle' | 'running' | 'rescheduling' | 'terminated';
  stop_reason: StopReason | null;
  stop_details: StopDetails;
  title: string | null;
  metadata: Record<string, string>;
  agent: JsonObject;
  agent_id: string;
  agent_version: number;
  environment_id: string;
  /** Absent where there are none. */
  vault_ids?: string[];
  thread_id: string;
  /** Absent where the session is no fork. */
  forked_from?: { session_id: string; event_id: string; checkpoint_id: string | null };
  resources: JsonObject[];
  usage: {
    input_tokens: number;
    output_tokens: number;
    cache_read_input_tokens: number;
    cache_creation_input_tokens: number;
  };
  /** Millionths of a US dollar; null as soon as one model call had no known price. */
  cost_micros: number | null;
  /** Tool uses that wait for a client. */
  pending: string[];
  active_ms: number;
  /** When the present running stretch began. */
  running_since: string | null;
  created_at: string;
  updated_at: string;
  archived_at: string | null;
  deleted: boolean;
};

/** What the reducer reads of a stored event; the store hands over exactly that. */
type Seen = { type: string; time: string; public: JsonObject; private: JsonObject | null };

const empty: SessionSummary = {
  kind: null,
  status: 'idle',
  stop_reason: null,
  stop_details: null,
  title: null,
  metadata: {},
  agent: {},
  agent_id: '',
  agent_version: 0,
  environment_id: '',
  thread_id: '',
  resources: [],
  usage: { input_tokens: 0, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 0 },
  cost_micros: 0,
  pending: [],
  active_ms: 0,
  running_since: null,
  created_at: '',
  updated_at: '',
  archived_at: null,
  deleted: false,
};

/** Pure; given to the store by module and name, as its worker cannot be handed a function. */
export function summarize(summary: JsonObject | null, event: Seen): JsonObject {
  const before = (summary as SessionSummary | null) ?? empty;
  const change = changeBy(before, event);
  return { ...before, ...change, updated_at: event.time } as unknown as JsonObject;
}

function changeBy(before: SessionSummary, event: Seen): Partial<SessionSummary> {
  switch (event.type) {
    case 'session.created':
      return created(event);
    case 'session.forked':
      return forked(event);
    case 'session.updated':
      return updated(before, event.public);
    case 'session.status_running':
      return {
        status: 'running',
        stop_reason: null,
        stop_details: null,
        pending: [],
        running_since: before.running_since ?? event.time,
      };
    case 'session.status_rescheduled':
      return { status: 'rescheduling', ...stopped(before, event.time) };
    case 'session.status_idle':
      return idle(before, event);
    case 'session.status_terminated':
      return { status: 'terminated', pending: [], ...stopped(before, event.time) };
    case 'session.archived':
      return { archived_at: event.time };
    case 'session.deleted':
      return { deleted: true };
    case 'span.model_request_end':
      return spent(before, event.public);
    default:
      return {};
  }
}

function created(event: Seen): Partial<SessionSummary> {
  const config = event.private ?? {};
  const agent = (config.agent ?? {}) as JsonObject;
  return {
    kind: 'session',
    title: (event.public.title ?? null) as string | null,
    metadata: (config.metadata ?? {}) as Record<string, string>,
    agent,
    agent_id: String(agent.id ?? ''),
    agent_version: Number(agent.version ?? 0),
    environment_id: String(config.environmentId ?? ''),
    ...(config.vaultIds === undefined ? {} : { vault_ids: config.vaultIds as string[] }),
    thread_id: String(config.thread ?? ''),
    resources: (config.resources ?? []) as JsonObject[],
    created_at: event.time,
  };
}

/** What the copied part of the log has spent is the parent's. */
function forked({ time, public: from, private: own }: Seen): Partial<SessionSummary> {
  const { usage, cost_micros, active_ms, running_since, pending } = empty;
  return {
    ...{ usage, cost_micros, active_ms, running_since, pending, created_at: time },
    resources: (own?.resources ?? []) as JsonObject[],
    forked_from: {
      session_id: String(from.from_session_id),
      event_id: String(from.at_event_id),
      checkpoint_id: (from.checkpoint_id ?? null) as string | null,
    },
  };
}

function updated(before: SessionSummary, change: JsonObject): Partial<SessionSummary> {
  const title = change.title === undefined ? before.title : (change.title as string | null);
  const metadata =
    change.metadata === undefined ? before.metadata : (change.metadata as Record<string, string>);
  return { title, metadata };
}

function idle(before: SessionSummary, event: Seen): Partial<SessionSummary> {
  const reason = event.public.stop_reason as StopReason;
  return {
    status: 'idle',
    stop_reason: reason,
    stop_details: (event.public.stop_details ?? null) as StopDetails,
    pending: reason.type === 'requires_action' ? reason.event_ids : [],
    ...stopped(before, event.time),
  };
}

function stopped(before: SessionSummary, time: string): Partial<SessionSummary> {
  if (before.running_since === null) return {};
  const stretchMs = Date.parse(time) - Date.parse(before.running_since);
  return { active_ms: before.active_ms + Math.max(0, stretchMs), running_since: null };
}

function spent(before: SessionSummary, end: JsonObject): Partial<SessionSummary> {
  const used = (end.model_usage ?? {}) as Record<string, number>;
  const cost = end.cost_micros as number | null;
  const { usage } = before;
  return {
    usage: {
      input_tokens: usage.input_tokens + (used.input_tokens ?? 0),
      output_tokens: usage.output_tokens + (used.output_tokens ?? 0),
      cache_read_input_tokens: usage.cache_read_input_tokens + (used.cache_read_input_tokens ?? 0),
      cache_creation_input_tokens:
        usage.cache_creation_input_tokens + (used.cache_creation_input_tokens ?? 0),
    },
    cost_micros: before.cost_micros === null || cost === null ? null : before.cost_micros + cost,
  };
}
