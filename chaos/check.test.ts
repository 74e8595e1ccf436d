/** The judge, over logs made by hand: a good one passes, and each promise broken by hand is named. */
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../src/protocol/json.ts';
import { check, expectedGroups } from './check.ts';
import type { Evidence, LogEvent } from './evidence.ts';

const time = (seq: number): string => new Date(1_790_000_000_000 + seq * 1_000).toISOString();

/** Type, public payload, and what else is not as usual. */
function logOf(...events: [string, JsonObject, Partial<LogEvent>?][]): LogEvent[] {
  return events.map(([type, payload, extra], index) => ({
    id: `e${index + 1}`,
    type,
    seq: index + 1,
    time: time(index + 1),
    fence: type.startsWith('user.') ? null : 1,
    call: null,
    audience: ['intent', 'input.processed', 'turn.ended'].includes(type) ? 'operator' : 'public',
    public: payload,
    private: null,
    ...extra,
  }));
}

function goodEvidence(): Evidence {
  const log = logOf(
    ['user.message', { content: [{ type: 'text', text: 'task a' }] }],
    ['session.status_running', {}],
    ['input.processed', { event_ids: ['e1'] }],
    ['span.model_request_start', {}],
    ['agent.tool_use', { name: 'bash', input: { command: 'nonce=a.0; echo' } }],
    ['span.model_request_end', { model_request_start_id: 'e4' }],
    ['intent', { tool_use_id: 'e5' }],
    ['agent.tool_result', { tool_use_id: 'e5', is_error: false, content: [] }],
    ['agent.custom_tool_use', { name: 'ask', input: {} }],
    ['user.custom_tool_result', { custom_tool_use_id: 'e9' }],
    ['turn.ended', {}],
    ['session.status_idle', { stop_reason: { type: 'end_turn' } }],
  );
  const groups = expectedGroups(log);
  const listed = log
    .filter((event) => event.audience === 'public')
    .map((event) => ({
      ...event.public,
      id: event.id,
      type: event.type,
      processed_at: event.id === 'e1' ? time(3) : event.time,
    }));
  return {
    sessions: [{ id: 's', log, listed, unrest: null }],
    inputs: [
      { session: 's', text: 'task a', hasKey: true, requests: 2, acknowledged: ['e1', 'e1'] },
      { session: 's', text: null, hasKey: true, requests: 1, acknowledged: ['e10'] },
    ],
    readers: [{ session: 's', name: 'reader', groups, connections: 1 }],
    effects: ['a.0'],
    hostDeaths: [],
    clockJumped: false,
    crashes: [],
    audits: [],
  };
}

function broken(breakIt: (evidence: Evidence, log: LogEvent[]) => void): string[] {
  const evidence = structuredClone(goodEvidence());
  breakIt(evidence, evidence.sessions[0]!.log);
  return [...new Set(check(evidence).violations.map((violation) => violation.invariant))];
}

function eventAt(log: LogEvent[], seq: number): LogEvent {
  return log[seq - 1]!;
}

/** Takes an event out, and closes the gap: as if it had never been. */
function without(log: LogEvent[], seq: number): void {
  log.splice(seq - 1, 1);
  for (const [index, event] of log.entries()) event.seq = index + 1;
}

it('finds nothing where nothing is wrong', () => {
  const verdict = check(goodEvidence());
  expect(verdict).toEqual({ violations: [], inDoubt: 0, results: 2 });
});

it('shows a queued input twice in a stream: when it came, and when it was taken up', () => {
  const frames = expectedGroups(goodEvidence().sessions[0]!.log).flatMap(({ seq, frames }) =>
    frames.filter((frame) => frame.data.id === 'e1').map((frame) => [seq, frame.data.processed_at]),
  );
  expect(frames).toEqual([
    [1, null],
    [3, time(3)],
  ]);
});

describe('names the promise that is broken', () => {
  it.each<[string, string, (evidence: Evidence, log: LogEvent[]) => void]>([
    ['an acknowledged input is not in the log', 'I1', ({ inputs }) => inputs[0]!.acknowledged.push('e99')],
    ['an acknowledged answer is not in the log', 'I1', ({ inputs }) => inputs[1]!.acknowledged.push('e99')],
    [
      'one key got two answers',
      'I1',
      ({ inputs }) => {
        inputs[0]!.acknowledged[1] = 'e10';
      },
    ],
    [
      'an input is there twice',
      'I1',
      (_, log) => log.push({ ...eventAt(log, 1), id: 'e13', seq: 13, time: time(13) }),
    ],
    ['an acknowledged input was never taken up', 'I1', (_, log) => without(log, 3)],
    [
      'a gap',
      'I2',
      (_, log) => {
        eventAt(log, 12).seq = 13;
      },
    ],
    [
      'an id twice',
      'I2',
      (_, log) => {
        eventAt(log, 11).id = 'e8';
      },
    ],
    [
      'an old owner writes',
      'I3',
      (_, log) => {
        eventAt(log, 6).fence = 2;
      },
    ],
    ['a call without a result', 'I4', (_, log) => without(log, 8)],
    [
      'a second result',
      'I4',
      (_, log) => log.push({ ...eventAt(log, 8), id: 'e13', seq: 13, time: time(13) }),
    ],
    [
      'a result of no call',
      'I4',
      (_, log) =>
        log.push({ ...eventAt(log, 8), id: 'e13', seq: 13, time: time(13), public: { tool_use_id: 'x' } }),
    ],
    ['a model request without an end', 'I4', (_, log) => without(log, 6)],
    ['a result without intent', 'I5', (_, log) => without(log, 7)],
    ['an effect that no log knows', 'I5', ({ effects }) => effects.push('z.9')],
    ['an effect twice', 'I6', ({ effects }) => effects.push('a.0')],
    ['done, and no effect', 'I6', ({ effects }) => effects.pop()],
    [
      'failed, and an effect',
      'I6',
      (_, log) => {
        eventAt(log, 8).public.is_error = true;
      },
    ],
    [
      'in doubt without a cause',
      'I6',
      (_, log) => {
        eventAt(log, 8).public.in_doubt = true;
      },
    ],
    [
      'no rest',
      'I7',
      ({ sessions }) => {
        sessions[0]!.unrest = 'it is running';
      },
    ],
    ['a stream without one event', 'I8', ({ readers }) => readers[0]!.groups.splice(3, 1)],
    [
      'a stream with one event twice',
      'I8',
      ({ readers }) => readers[0]!.groups.splice(3, 0, readers[0]!.groups[3]!),
    ],
    ['a stream that ends too soon', 'I8', ({ readers }) => readers[0]!.groups.pop()],
    [
      'a stream that says something else',
      'I8',
      ({ readers }) => {
        readers[0]!.groups[2]!.frames[0]!.data.name = 'other';
      },
    ],
    ['a list without one event', 'I8', ({ sessions }) => sessions[0]!.listed.splice(2, 1)],
    ['what fsck finds', 'audit', ({ audits }) => audits.push('fsck: L1')],
    ['a process that ended by itself', 'crash', ({ crashes }) => crashes.push('server: exit 1')],
  ])('%s', (_, promise, breakIt) => {
    expect(broken(breakIt)).toContain(promise);
  });
});

it('allows doubt where the host died while the call ran, and only there', () => {
  const doubt = (deathMs: number, host: string | null = null) =>
    broken((evidence, log) => {
      const started = { type: 'sandbox.started', public: { host: 'h~1' } } as unknown as LogEvent;
      log.push({ ...eventAt(log, 8), ...started, id: 'started', seq: log.length + 1, audience: 'operator' });
      eventAt(log, 8).public.in_doubt = true;
      eventAt(log, 8).public.is_error = true;
      evidence.hostDeaths.push({ atMs: deathMs, host });
      evidence.sessions[0]!.listed = [];
    }).includes('I6');
  expect(doubt(Date.parse(time(7)))).toBe(false);
  expect(doubt(Date.parse(time(20)))).toBe(true);
  expect(doubt(Date.parse(time(7)), 'h~1')).toBe(false);
  expect(doubt(Date.parse(time(7)), 'h~2')).toBe(true);
});

it('allows a refused call to have no intent', () => {
  const violations = broken((evidence, log) => {
    eventAt(log, 7).type = 'user.tool_confirmation';
    eventAt(log, 7).public = { tool_use_id: 'e5', result: 'deny' };
    eventAt(log, 8).public.is_error = true;
    evidence.effects.pop();
  });
  expect(violations).not.toContain('I5');
  expect(violations).not.toContain('I6');
});
