/**
 * Between the end of an act and the moment in which its facts are where the next decision finds them, a decision may be made:
 * the act must still count as under way, or a call is ended twice and a model asked twice (L4). Found by an attack of
 * 40,000 steps, in which it happened twice.
 */
import { expect, it } from 'vitest';
import { MemoryExecutor } from '../../test/peers/memory-executor.ts';
import type { ActEffect } from '../session/decide.ts';
import { type Call, initialState, type SessionState, type Turn } from '../session/state.ts';
import type { Blobs } from '../store/store.ts';
import { Acts } from './acts.ts';
import { minter } from './draft.ts';
import { Hands } from './hands.ts';

const claim = { organization: 'org', project: 'proj', stream: 'sesn_1', fence: 1, head: 1 };
const limits = { memoryBytes: 1e9, processes: 10, openFiles: 10, tmpBytes: 1e6, fileBytes: 1e9 };
const call = { id: 'sevt_1', name: 'no_such_tool', input: {}, isIntended: false } as Call;
const turn = { id: 'turn_1', rounds: 0, attempts: 0, model: null } as Turn;

function newActs(): Acts {
  const hands = new Hands({ executor: new MemoryExecutor(), blobs: {} as Blobs, limits }, claim);
  const shell = {
    ...{ mint: minter('wrkr_1'), session: claim.stream, nowMs: Date.now, retryDelayMs: () => null },
    decide: () => ({ effect: 'allow' as const }),
  };
  const deps = { modelFor: () => null, findTool: () => null, costMicros: () => null, onPreview: () => {} };
  return new Acts(deps, shell as never, hands);
}

/** Begins the act and waits for its facts, as a driver does, but does not take them yet. */
async function ended(acts: Acts, effect: ActEffect, state: SessionState = initialState) {
  const prepared = acts.prepare(effect, state);
  if (!prepared || !('start' in prepared)) throw new Error('nothing to start');
  const facts = await prepared.start.perform(state, async () => true);
  return { facts, start: prepared.start };
}

it('a call that has just ended is neither run nor ended again before its result is taken', async () => {
  const acts = newActs();
  const { facts, start } = await ended(acts, { type: 'run_tool', call });
  expect(facts?.drafts.map(({ type }) => type)).toEqual(['agent.tool_result']);
  expect(acts.prepare({ type: 'cancel_tool', call }, initialState)).toBeNull();
  expect(acts.prepare({ type: 'run_tool', call }, initialState)).toBeNull();
  start.ended();
  expect(acts.prepare({ type: 'cancel_tool', call }, initialState)).not.toBeNull();
});

it('a model call that has just ended is not given up as lost before its answer is taken', async () => {
  const acts = newActs();
  const { facts, start } = await ended(acts, { type: 'call_model', turn });
  const callId = start.reserves ?? '';
  expect(facts?.settled?.id).toBe(callId);
  expect(acts.prepare({ type: 'await_model', callId, turn } as ActEffect, initialState)).toBeNull();
  start.ended();
  expect(acts.prepare({ type: 'await_model', callId, turn } as ActEffect, initialState)).not.toBeNull();
});
