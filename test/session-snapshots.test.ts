/** Snapshots of a folded state: whatever a session has lived through, one can be put in place of its past (L1, L7). */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { foldStored } from '../src/engine/folded-sessions.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import { fold } from '../src/session/fold.ts';
import { decodeState, encodeState } from '../src/session/snapshot.ts';
import { initialState, type SessionState } from '../src/session/state.ts';
import type { StoredEvent } from '../src/store/store.ts';
import { requestHash, Simulator } from './peers/session-simulator.ts';

/** By way of text, as a store keeps it. */
function throughText(state: SessionState): SessionState {
  const decoded = decodeState(JSON.parse(JSON.stringify(encodeState(state))) as JsonObject);
  if (decoded === null) throw new Error(`not decoded: ${JSON.stringify(encodeState(state))}`);
  return decoded;
}

const plain = (state: SessionState) => ({ ...state, history: state.history.toArray() });

function live(choices: number[]): Simulator {
  let at = 0;
  const simulator = new Simulator((below) => ((choices[at++ % choices.length] ?? 0) + at * 7919) % below);
  for (const choice of choices) {
    if (choice % 10 < 2) simulator.randomInput();
    else if (choice % 10 < 9) simulator.step();
    else simulator.crash();
  }
  return simulator;
}

const lives = fc.array(fc.nat(1_000_000), { minLength: 20, maxLength: 200 }).map(live);

describe('a snapshot', () => {
  it('taken at any event of any life is that state, and folds on and asks the model as it does', () => {
    fc.assert(
      fc.property(lives, fc.nat(), ({ log }, place) => {
        const at = place % (log.length + 1);
        let state = log.slice(0, at).reduce(fold, initialState);
        let restored = throughText(state);
        expect(plain(restored)).toEqual(plain(state));
        for (const event of log.slice(at)) {
          state = fold(state, event);
          restored = fold(restored, event);
        }
        expect(plain(restored)).toEqual(plain(state));
        expect(requestHash(restored)).toBe(requestHash(state));
      }),
      { numRuns: 200 },
    );
  });

  it.each(Object.keys(initialState))('without %s is none', (name) => {
    const { [name]: _, ...rest } = encodeState(initialState);
    expect(decodeState(rest)).toBeNull();
  });

  it('with members that this release does not know is none', () => {
    const turn = { id: 'turn_1' };
    const bad = [{ more: 1 }, { turn }, { calls: [{}] }, { sandbox: {} }, { history: {} }, { queue: null }];
    for (const change of bad) expect(decodeState({ ...encodeState(initialState), ...change })).toBeNull();
  });
});

const root = path.join(import.meta.dirname, 'histories');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.jsonl') && !file.endsWith('.expected.jsonl'),
);

describe('a snapshot at every event of a golden history', () => {
  it.each(files)('%s: the rest of it folds to the same state', (file) => {
    const lines = readFileSync(path.join(root, file), 'utf8').trimEnd().split('\n');
    const log = lines.map((line) => JSON.parse(line) as StoredEvent);
    const whole = plain(log.reduce(foldStored, initialState));
    for (let at = 0; at <= log.length; at++) {
      const restored = throughText(log.slice(0, at).reduce(foldStored, initialState));
      expect(plain(log.slice(at).reduce(foldStored, restored))).toEqual(whole);
    }
  });
});
