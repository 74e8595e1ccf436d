/** A session as clients see it (managed-agents-protocol.md §4.2), from the summary that the store keeps of its log. */
import type { JsonObject } from '../protocol/json.ts';
import type { SessionSummary } from '../session/summary.ts';

export function sessionView(id: string, summary: SessionSummary, nowMs: number): JsonObject {
  return {
    type: 'session',
    id,
    status: summary.status,
    title: summary.title,
    agent: summary.agent,
    environment_id: summary.environment_id,
    deployment_id: null,
    metadata: summary.metadata,
    resources: summary.resources,
    vault_ids: summary.vault_ids ?? [],
    budget: null,
    outcome_evaluations: [],
    usage: usageView(summary, nowMs),
    stats: statsView(summary, nowMs),
    stop_reason: summary.stop_reason,
    stop_details: summary.stop_details,
    created_at: summary.created_at,
    updated_at: summary.updated_at,
    archived_at: summary.archived_at,
    ...(summary.forked_from === undefined ? {} : { forked_from: summary.forked_from }),
  };
}

/** The one thread there is. */
export function threadView(sessionId: string, summary: SessionSummary, nowMs: number): JsonObject {
  const { multiagent: _multiagent, ...agent } = summary.agent;
  return {
    type: 'session_thread',
    id: summary.thread_id,
    session_id: sessionId,
    agent,
    status: summary.status,
    parent_thread_id: null,
    workflow_run_id: null,
    stats: statsView(summary, nowMs),
    usage: usageView(summary, nowMs),
    created_at: summary.created_at,
    updated_at: summary.updated_at,
    archived_at: summary.archived_at,
  };
}

function usageView(summary: SessionSummary, nowMs: number): JsonObject {
  const { usage, cost_micros } = summary;
  return {
    input_tokens: usage.input_tokens,
    output_tokens: usage.output_tokens,
    cache_read_input_tokens: usage.cache_read_input_tokens,
    cache_creation: {
      ephemeral_5m_input_tokens: usage.cache_creation_input_tokens,
      ephemeral_1h_input_tokens: 0,
    },
    active_seconds: activeSeconds(summary, nowMs),
    // Whole cents, rounded up: a price shown is never below the price.
    list_cost:
      cost_micros === null ? null : { amount: String(Math.ceil(cost_micros / 10_000)), currency: 'USD' },
    cost_micros,
  };
}

function statsView(summary: SessionSummary, nowMs: number): JsonObject {
  const end = summary.archived_at === null ? nowMs : Date.parse(summary.archived_at);
  return {
    active_seconds: activeSeconds(summary, nowMs),
    duration_seconds: Math.max(0, end - Date.parse(summary.created_at)) / 1000,
  };
}

function activeSeconds(summary: SessionSummary, nowMs: number): number {
  const sinceMs = summary.running_since === null ? 0 : Math.max(0, nowMs - Date.parse(summary.running_since));
  return (summary.active_ms + sinceMs) / 1000;
}
