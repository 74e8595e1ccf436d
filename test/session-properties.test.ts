/**
 * The core's promises over random logs: a simulated engine that crashes at random, a person who interferes at random.
 * Each law is a function over the finished log, so that it cannot share a bug with the code that wrote it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { realize } from '../src/engine/realize.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import { decide, maxRoundsPerTurn, type RecordEffect } from '../src/session/decide.ts';
import { type Folded, fold, foldAll } from '../src/session/fold.ts';
import { blockers, isBlocked, type SessionState } from '../src/session/state.ts';
import { type SessionSummary, summarize } from '../src/session/summary.ts';
import { requestHash, Simulator } from './peers/session-simulator.ts';

const runs = { numRuns: 300 };

/** A whole life: inputs, steps, endings and crashes in random order, then left alone until it rests. */
function live(choices: number[]): Simulator {
  let at = 0;
  const choose = (below: number): number => {
    const drawn = choices[at++ % choices.length] ?? 0;
    // Without the position a short list of choices would loop the same life for ever.
    return Math.abs(drawn + at * 7919) % below;
  };
  const simulator = new Simulator(choose);
  for (let i = 0; i < choices.length; i++) {
    const what = choose(10);
    if (what < 2) simulator.randomInput();
    else if (what < 7) simulator.step();
    else if (what < 9) simulator.finishOne();
    else simulator.crash();
  }
  simulator.settle();
  return simulator;
}

const lives = fc.array(fc.nat(1_000_000), { minLength: 20, maxLength: 250 }).map(live);

const of = <T extends Folded['type']>(log: Folded[], type: T) =>
  log.filter((event): event is Extract<Folded, { type: T }> => event.type === type);

describe('the session core, whatever happens to its engine', () => {
  it('folds every prefix of every log, and decides on it', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let state: SessionState = foldAll([]);
        for (const event of log) {
          state = fold(state, event);
          decide(state);
        }
      }),
      runs,
    );
  });

  it('gives every tool use exactly one result before its turn ends (L4)', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        const open = new Set<string>();
        for (const event of log) {
          if (event.type === 'agent.tool_use' || event.type === 'agent.custom_tool_use') open.add(event.id);
          if (event.type === 'agent.tool_result') expect(open.delete(event.public.tool_use_id)).toBe(true);
          if (event.type === 'user.custom_tool_result')
            expect(open.delete(event.public.custom_tool_use_id)).toBe(true);
          if (event.type === 'turn.ended') expect([...open]).toEqual([]);
        }
      }),
      runs,
    );
  });

  it('writes no intent for a call that was not allowed, and none twice (L5)', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        const allowed = new Set<string>();
        for (const event of log) {
          if (event.type === 'agent.tool_use' && event.public.evaluated_permission === 'allow')
            allowed.add(event.id);
          if (event.type === 'user.tool_confirmation' && event.public.result === 'allow')
            allowed.add(event.public.tool_use_id);
          if (event.type === 'intent') expect(allowed.delete(event.public.tool_use_id)).toBe(true);
        }
      }),
      runs,
    );
  });

  it('begins no call that was asked about before the last answer is in, and none while it says it is idle', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let status = '';
        const waiting = new Set<string>();
        const asked = new Set<string>();
        for (const event of log) {
          if (event.type === 'session.status_running' || event.type === 'session.status_idle')
            status = event.type;
          const isAsked = event.type === 'agent.tool_use' && event.public.evaluated_permission === 'ask';
          if (isAsked) asked.add(event.id);
          if (isAsked || event.type === 'agent.custom_tool_use') waiting.add(event.id);
          if (event.type === 'user.tool_confirmation') waiting.delete(event.public.tool_use_id);
          if (event.type === 'user.custom_tool_result') waiting.delete(event.public.custom_tool_use_id);
          if (event.type === 'agent.tool_result') waiting.delete(event.public.tool_use_id);
          if (event.type !== 'intent') continue;
          expect(status).toBe('session.status_running');
          if (asked.has(event.public.tool_use_id)) expect([...waiting]).toEqual([]);
        }
      }),
      runs,
    );
  });

  it('runs what may change something alone, and only what changes nothing together', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        const names = new Map(of(log, 'agent.tool_use').map((event) => [event.id, event.public.name]));
        const open = new Set<string>();
        for (const event of log) {
          if (event.type === 'agent.tool_result') open.delete(event.public.tool_use_id);
          if (event.type !== 'intent') continue;
          open.add(event.public.tool_use_id);
          const changing = [...open].filter((id) => !['read', 'glob'].includes(names.get(id) ?? ''));
          if (changing.length > 0) expect(open.size).toBe(1);
        }
      }),
      runs,
    );
  });

  it('rests on exactly what it waits for, and says every change of status once', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        if (isBlocked(state)) {
          const ids = blockers(state).map((call) => call.id);
          expect(state.stopReason).toEqual({ type: 'requires_action', event_ids: ids });
        } else expect(state.turn).toBeNull();
        let isRunning = false;
        for (const event of log) {
          if (event.type === 'session.status_running') expect(isRunning).toBe(false);
          if (event.type === 'session.status_running') isRunning = true;
          if (event.type === 'session.status_idle' || event.type === 'session.status_rescheduled')
            isRunning = false;
          if (event.type === 'model.intent') expect(isRunning).toBe(true);
        }
      }),
      runs,
    );
  });

  it('ends a turn with the reason that its last response or failure gave', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let refused = false;
        let hasFailed = false;
        for (const event of log) {
          if (event.type === 'model.response') refused = event.private.stop === 'refusal';
          if (event.type === 'model.response') hasFailed = false;
          if (event.type === 'session.error')
            hasFailed = event.public.error.retry_status.type === 'exhausted';
          if (event.type !== 'turn.ended' || event.public.interrupted) continue;
          const reason = hasFailed ? 'retries_exhausted' : refused ? 'refusal' : 'end_turn';
          expect(event.public.stop_reason.type).toBe(reason);
          [refused, hasFailed] = [false, false];
        }
      }),
      runs,
    );
  });

  it('makes no effect without its durable intent (L5, L6)', () => {
    fc.assert(
      fc.property(lives, ({ log, effects }) => {
        const intended = new Set(of(log, 'intent').map((event) => event.public.tool_use_id));
        for (const callId of effects.keys()) expect(intended).toContain(callId);
      }),
      runs,
    );
  });

  it('asks the model the very same bytes when the log is replayed (L7)', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let state = foldAll([]);
        for (const event of log) {
          if (event.type === 'model.intent') expect(requestHash(state)).toBe(event.private.requestSha256);
          state = fold(state, event);
        }
      }),
      runs,
    );
  });

  it('means the same when it is read back from where it was written as JSON (L7)', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        const readBack = JSON.parse(JSON.stringify(log)) as Folded[];
        const { history: after, ...again } = foldAll(readBack);
        const { history: before, ...written } = state;
        expect(again).toStrictEqual(written);
        expect(after.toArray()).toStrictEqual(before.toArray());
      }),
      runs,
    );
  });

  it('counts the failures of the provider since its last answer, and no death of an engine among them', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let failures = 0;
        for (const event of log) {
          if (event.type === 'turn.started' || event.type === 'model.response') failures = 0;
          const { kind } = event.type === 'model.failed' ? event.public : { kind: null };
          if (kind !== null && kind !== 'engine_lost' && kind !== 'aborted') failures++;
          if (event.type === 'model.intent') expect(event.public.attempt).toBe(failures);
        }
      }),
      runs,
    );
  });

  it('takes a fact that is told twice, or too late, for told once (L4)', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        const twice = log.flatMap((event) => [event, ...echoes(event)]);
        const { history: after, seq: _after, ...again } = foldAll(twice);
        const { history: before, seq: _before, ...once } = state;
        expect(again).toStrictEqual(once);
        expect(after.toArray()).toStrictEqual(before.toArray());
      }),
      runs,
    );
  });

  it('ends a turn that does not come to an end by itself, and says why', () => {
    fc.assert(
      fc.property(lives, ({ log, shell }) => {
        let state = foldAll([]);
        for (const event of log) {
          state = fold(state, event);
          const [first] = decide(state);
          if (first?.type !== 'call_model') continue;
          const [effect] = decide({ ...state, turn: { ...first.turn, rounds: maxRoundsPerTurn } });
          expect(effect).toMatchObject({ type: 'end_turn', how: 'too_many_rounds' });
          const told = realize(effect as RecordEffect, state, shell).map(({ type }) => type);
          expect(told).toEqual(['session.error', 'turn.ended', ...ended]);
        }
      }),
      runs,
    );
  });

  it('counts tokens and money in the state as the summary does, failed attempts too (G3)', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        let summary: JsonObject | null = null;
        for (const event of log) {
          const seen = { ...event, time: '2026-01-01T00:00:00.000Z' };
          summary = summarize(summary, seen as unknown as Parameters<typeof summarize>[1]);
        }
        const { usage, cost_micros } = summary as unknown as SessionSummary;
        expect(cost_micros).toBe(state.costMicros);
        expect(usage.input_tokens).toBe(state.usage.inputTokens);
        expect(usage.output_tokens).toBe(state.usage.outputTokens);
        expect((summary as unknown as SessionSummary).status).toBe(state.status);
      }),
      runs,
    );
  });

  it('never shows the model a call without its result, or a result without its call', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let state = foldAll([]);
        for (const event of log) {
          if (event.type === 'model.intent') expect(unpaired(state)).toEqual([]);
          state = fold(state, event);
        }
      }),
      runs,
    );
  });

  it('takes queued messages in their order, one turn after the other, none lost and none twice', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        let isOpen = false;
        for (const event of log) {
          if (event.type === 'turn.started') {
            expect(isOpen).toBe(false);
            isOpen = true;
          }
          if (event.type === 'turn.ended') isOpen = false;
        }
        const sent = of(log, 'user.message');
        const queued = sent.filter((event) => event.public.delivery === 'queue').map((event) => event.id);
        const taken = log.flatMap((event) =>
          event.type === 'turn.started' || event.type === 'turn.steered' ? event.public.event_ids : [],
        );
        expect(new Set(taken).size).toBe(taken.length);
        expect(taken.filter((id) => queued.includes(id))).toEqual(
          queued.slice(0, taken.filter((id) => queued.includes(id)).length),
        );
        const waiting = state.queue.map((message) => message.eventId);
        expect([...taken, ...waiting].sort()).toEqual(sent.map((event) => event.id).sort());
        expect(isBlocked(state) || waiting.length === 0).toBe(true);
      }),
      runs,
    );
  });

  it('says usage directly before every idle, and closes every model span exactly once', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        for (const [index, event] of log.entries()) {
          if (event.type === 'session.status_idle') expect(log[index - 1]?.type).toBe('session.usage');
        }
        const started = of(log, 'span.model_request_start').map((event) => event.id);
        const ended = of(log, 'span.model_request_end').map((event) => event.public.model_request_start_id);
        expect(ended.sort()).toEqual(started.sort());
      }),
      runs,
    );
  });

  it('processes every interrupt, and stops the model asking after it in that turn', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        const processed = new Set(of(log, 'input.processed').flatMap((event) => event.public.event_ids));
        for (const interrupt of of(log, 'user.interrupt')) expect(processed).toContain(interrupt.id);
        let interrupted = false;
        for (const event of log) {
          if (event.type === 'user.interrupt') interrupted = true;
          if (event.type === 'input.processed') interrupted = false;
          if (event.type === 'model.intent') expect(interrupted).toBe(false);
        }
      }),
      runs,
    );
  });

  it('reaches in its random lives what the laws speak of, or they would prove nothing', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(lives, ({ log }) => {
        for (const event of log) seen.add(event.type);
      }),
      runs,
    );
    const needed = [
      'intent',
      'timer.fired',
      'turn.steered',
      'user.interrupt',
      'user.custom_tool_result',
      'model.failed',
    ];
    for (const type of [...needed, 'session.error', 'user.tool_confirmation']) expect(seen).toContain(type);
  });
});

const ended = ['session.thread_status_idle', 'session.usage', 'session.status_idle'];

/** The same fact again, with another content: only the first may count. */
function echoes(event: Folded): Folded[] {
  switch (event.type) {
    case 'agent.tool_result':
      return [{ ...event, public: { ...event.public, content: [] }, private: { cwd: '/elsewhere' } }];
    case 'user.custom_tool_result':
      return [{ ...event, public: { ...event.public, content: [], is_error: true } }];
    case 'user.tool_confirmation':
      return [{ ...event, public: { ...event.public, result: 'deny', deny_message: 'too late' } }];
    case 'model.response':
      return [{ ...event, private: { ...event.private, output: [], stop: 'refusal' } }];
    case 'model.failed':
    case 'intent':
    case 'input.processed':
    case 'timer.fired':
    case 'turn.ended':
      return [event];
    default:
      return [];
  }
}

function unpaired(state: SessionState): string[] {
  const open = new Set<string>();
  const stray: string[] = [];
  for (const item of state.history) {
    if (item.type === 'response') {
      for (const output of item.output) if (output.type === 'tool_call') open.add(output.providerCallId);
    }
    if (item.type === 'tool_result' && !open.delete(item.providerCallId)) stray.push(item.providerCallId);
  }
  return [...stray, ...open];
}
