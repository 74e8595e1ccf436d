import { expect, it } from 'vitest';
import type { JsonObject } from '../protocol/json.ts';
import { summarize } from './summary.ts';

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, seconds)).toISOString();
const seen = (
  type: string,
  seconds: number,
  publicPayload: JsonObject = {},
  hidden: JsonObject | null = null,
) => ({
  type,
  time: at(seconds),
  public: publicPayload,
  private: hidden,
});
const reduce = (events: ReturnType<typeof seen>[]) =>
  events.reduce<JsonObject | null>((summary, event) => summarize(summary, event), null);

const created = seen(
  'session.created',
  0,
  { title: 't' },
  { agent: { id: 'agent_1', version: 3 }, environmentId: 'env_1' },
);
const cost = (micros: number | null) =>
  seen('span.model_request_end', 2, {
    cost_micros: micros,
    model_usage: { input_tokens: 5, output_tokens: 1 },
  });

it('says which streams are sessions, so that the stream of an organisation is not listed as one', () => {
  expect(reduce([created])).toMatchObject({ kind: 'session', agent_id: 'agent_1', agent_version: 3 });
  expect(reduce([seen('agent.created', 0)])).toMatchObject({ kind: null });
});

it('counts running time over stretches, and not the waiting between them', () => {
  const events = [
    created,
    seen('session.status_running', 10),
    seen('session.status_idle', 13, { stop_reason: { type: 'requires_action', event_ids: ['a'] } }),
    seen('session.status_running', 100),
    seen('session.status_idle', 104, { stop_reason: { type: 'end_turn' } }),
  ];
  expect(reduce(events)).toMatchObject({
    active_ms: 7_000,
    running_since: null,
    status: 'idle',
    pending: [],
  });
  expect(reduce(events.slice(0, 3))).toMatchObject({ pending: ['a'] });
});

it('makes the cost unknown with the first unknown price, and never counts that as zero (G3)', () => {
  expect(reduce([created, cost(3), cost(4)])).toMatchObject({ cost_micros: 7 });
  expect(reduce([created, cost(3), cost(null), cost(4)])).toMatchObject({ cost_micros: null });
});
