import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { EngineRoom, idleAfter, message } from '../../test/peers/engine-room.ts';
import { initialState } from '../session/state.ts';
import { FoldedSessions } from './folded-sessions.ts';

let room: EngineRoom;
let session: string;

beforeEach(async () => {
  room = await new EngineRoom().open(() => ({ text: 'hi' }));
  session = await room.createSession({}, message('go'));
  await room.until(session, idleAfter(1));
});

afterEach(async () => {
  vi.useRealTimers();
  await room.close();
});

it('reads only what came since it folded a session last', async () => {
  const read = vi.spyOn(room.store, 'read');
  const folded = new FoldedSessions(room.store);
  const first = await folded.fold(session);
  read.mockClear();
  expect(await folded.fold(session)).toEqual(first);
  expect(read.mock.calls.map(([, afterSeq]) => afterSeq)).toEqual([first.seq]);
});

it('keeps the later of two states, whoever learned it first', async () => {
  const folded = new FoldedSessions(room.store);
  const state = await folded.fold(session);
  folded.learn(session, initialState);
  expect(folded.known(session)).toBe(state);
});

it('forgets what nobody asked for, and the oldest when it is full', async () => {
  vi.useFakeTimers();
  const folded = new FoldedSessions(room.store, { capacity: 2, idleMs: 1_000 });
  for (const name of ['a', 'b', 'c']) folded.learn(name, initialState);
  expect(folded.size).toBe(2);
  vi.advanceTimersByTime(2_500);
  expect(folded.size).toBe(0);
});
