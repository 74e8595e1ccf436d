/**
 * Checkpoints, rollbacks and forks over random lives: what a session is after one is what it was there, and the model is
 * asked what it would have been asked there (L1, L7).
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { InputEvent } from '../src/session/accept.ts';
import { maxAutomatic } from '../src/session/checkpoint-policy.ts';
import { type Folded, fold, foldAll } from '../src/session/fold.ts';
import { requestHash, Simulator } from './peers/session-simulator.ts';

const runs = { numRuns: 200 };

function chooser(choices: number[]): (below: number) => number {
  let at = 0;
  return (below) => Math.abs((choices[at++ % choices.length] ?? 0) + at * 7919) % below;
}

function live(choices: number[]): Simulator {
  const choose = chooser(choices);
  const simulator = new Simulator(choose);
  for (let i = 0; i < choices.length; i++) {
    const what = choose(11);
    if (what === 10) rest(simulator, `sevt_asked${i}`);
    else if (what < 3) simulator.randomInput();
    else if (what < 7) simulator.step();
    else if (what < 9) simulator.finishOne();
    else simulator.crash();
  }
  simulator.settle();
  return simulator;
}

/** A person looks at what has come of it, and goes back. */
function rest(simulator: Simulator, id: string): void {
  for (let i = 0; i < 60 && simulator.step(); ) i++;
  simulator.askOfCheckpoints(id);
}

const choices = fc.array(fc.nat(1_000_000), { minLength: 60, maxLength: 300 });
const lives = choices.map(live);

const of = <T extends Folded['type']>(log: Folded[], type: T) =>
  log.filter((event): event is Extract<Folded, { type: T }> => event.type === type);

const say = (id: string) =>
  ({
    ...{ id, type: 'user.message', actor: 'test', thread: 'sthr_1', turn: null, call: null, causation: null },
    ...{ audience: 'public', public: { content: [{ type: 'text', text: id }] }, private: null },
  }) as InputEvent;

describe('checkpoints, whatever happens to the engine', () => {
  it('come to an end, each once, and a session that rests has none open', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        expect(state.checkpoints).toMatchObject({ making: null, restoring: null });
        // One that was asked for waits for the end of the turn, and before the first there is nothing to return to.
        if (state.turn === null && state.checkpoints.position) expect(state.checkpoints.requests).toEqual([]);
        const intended = of(log, 'checkpoint.intent').map((event) => event.public.checkpoint_id);
        const ended = log.flatMap((event) =>
          event.type === 'checkpoint.created' || event.type === 'checkpoint.failed'
            ? [event.public.checkpoint_id]
            : [],
        );
        expect(new Set(intended).size).toBe(intended.length);
        expect(ended.sort()).toEqual(intended.sort());
      }),
      runs,
    );
  });

  it('see no tool begin between their intent and their end, and begin where no turn is open (L5)', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let state = foldAll([]);
        for (const event of log) {
          if (event.type === 'intent')
            expect(state.checkpoints).toMatchObject({ making: null, restoring: null });
          if (event.type === 'checkpoint.intent') {
            expect(state.turn).toBeNull();
            expect(event.public.at_event_id).toBe(state.checkpoints.position?.eventId);
          }
          state = fold(state, event);
        }
      }),
      runs,
    );
  });

  it('are made after every turn that ran something, unless one was made since, and never after one that did not', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        const pure = new Set(
          of(log, 'agent.tool_use').flatMap((event) =>
            ['read', 'glob'].includes(event.public.name) ? event.id : [],
          ),
        );
        let hasRun = false;
        for (const event of log) {
          if (event.type === 'turn.started') expect(hasRun).toBe(false);
          if (event.type === 'intent' && !pure.has(event.public.tool_use_id)) hasRun = true;
          if (event.type !== 'checkpoint.intent') continue;
          if (event.public.reason === 'turn_end') expect(hasRun).toBe(true);
          hasRun = false;
        }
      }),
      runs,
    );
  });

  it('that nobody asked for give way to newer ones; those that were asked for stay', () => {
    fc.assert(
      fc.property(lives, ({ log, state }) => {
        const { kept } = state.checkpoints;
        expect(kept.filter(({ reason }) => reason === 'turn_end').length).toBeLessThanOrEqual(maxAutomatic);
        const asked = of(log, 'checkpoint.created').filter((event) => event.public.reason === 'requested');
        expect(kept.filter(({ reason }) => reason === 'requested').length).toBe(asked.length);
      }),
      runs,
    );
  });
});

describe('a rollback', () => {
  it('gives the session the history and the directory that it had there, and asks the model from there on', () => {
    let count = 0;
    fc.assert(
      fc.property(lives, ({ log }) => {
        for (const [index, event] of log.entries()) {
          if (event.type !== 'session.rolled_back') continue;
          count++;
          const at = log.findIndex(({ id }) => id === event.public.at_event_id);
          const then = foldAll(log.slice(0, at + 1));
          const now = foldAll(log.slice(0, index + 1));
          expect(now.history.toArray()).toStrictEqual(then.history.toArray());
          expect(now.cwd).toBe(then.cwd);
          expect(requestHash(now)).toBe(requestHash(then));
          expect(now.usage).toStrictEqual(foldAll(log.slice(0, index)).usage);
        }
      }),
      runs,
    );
    expect(count).toBeGreaterThan(10);
  });

  it('leaves what came after it where it can be forked from, and can not be gone back to', () => {
    fc.assert(
      fc.property(lives, ({ log }) => {
        let state = foldAll([]);
        for (const event of log) {
          const before = state;
          state = fold(state, event);
          if (event.type !== 'session.rolled_back') continue;
          const target = before.checkpoints.kept.find(({ id }) => id === event.public.checkpoint_id);
          for (const { seq, isOnLine } of state.checkpoints.kept)
            if (seq > (target?.seq ?? 0)) expect(isOnLine).toBe(false);
        }
      }),
      runs,
    );
  });
});

describe('a fork', () => {
  const lifeAndPlace = fc.tuple(choices, fc.nat());

  it('from any checkpoint asks the model what its parent would have been asked there, byte for byte (L7)', () => {
    let count = 0;
    fc.assert(
      fc.property(lifeAndPlace, ([drawn, place]) => {
        const parent = live(drawn);
        const { kept } = parent.state.checkpoints;
        const at = kept[place % Math.max(1, kept.length)];
        if (!at) return;
        count++;
        const fork = parent.fork(at, chooser(drawn));
        const then = foldAll(parent.log.slice(0, at.seq));
        expect(requestHash(fork.state)).toBe(requestHash(then));
        expect(fork.state).toMatchObject({ queue: [], turn: null, cwd: then.cwd, costMicros: 0 });
        fork.input(say('sevt_another_way'));
        fork.settle();
        let state = foldAll([]);
        for (const event of fork.log) {
          if (event.type === 'model.intent') expect(requestHash(state)).toBe(event.private.requestSha256);
          state = fold(state, event);
        }
        expect(of(fork.log, 'workspace.restored')).toHaveLength(1);
        expect(fork.state.checkpoints).toMatchObject({ making: null, restoring: null });
      }),
      runs,
    );
    expect(count).toBeGreaterThan(50);
  });

  it('runs nothing before its workspace is there, and its parent’s checkpoints are not its own', () => {
    fc.assert(
      fc.property(lifeAndPlace, ([drawn, place]) => {
        const parent = live(drawn);
        const { kept } = parent.state.checkpoints;
        const at = kept[place % Math.max(1, kept.length)];
        if (!at) return;
        const fork = parent.fork(at, chooser(drawn));
        expect(fork.state.checkpoints.kept).toEqual([]);
        fork.crash();
        fork.input(say('sevt_another_way'));
        for (let i = 0; i < 40; i++) fork.step();
        fork.settle();
        const own = fork.log.slice(at.seq);
        const restored = own.findIndex(({ type }) => type === 'workspace.restored');
        const first = own.findIndex(({ type }) => type === 'turn.started' || type === 'intent');
        expect(restored).toBeGreaterThan(0);
        if (first !== -1) expect(first).toBeGreaterThan(restored);
      }),
      runs,
    );
  });
});
