/** Sessions that are woken from outside, by `runTurn`: at least once is enough, and more is no harm (L3). */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { newId } from '../src/protocol/ids.ts';
import { EngineRoom, idleAfter, message } from './peers/engine-room.ts';
import { through } from './peers/watched-store.ts';

let room: EngineRoom;

beforeEach(async () => {
  room = new EngineRoom();
  // The built-in waker finds nothing: all there is comes from outside.
  room.between = (store) => through(store, async (method, _args, go) => (method === 'claim' ? [] : go()));
  await room.open(() => ({ text: 'done' }));
});

afterEach(() => room.close());

it('a session that nobody else wakes is driven until it rests', async () => {
  const session = await room.createSession({}, message('go'));
  expect(await room.engine.runTurn(session)).toBe('rested');
  expect(idleAfter(1)(await room.log(session))).toBe(true);
});

it('calls that come twice, together or late ask the model once, and all of them end', async () => {
  const session = await room.createSession({}, message('go'));
  const calls = await Promise.all([1, 2, 3].map(() => room.engine.runTurn(session)));
  expect(calls).toContain('rested');
  expect(await room.engine.runTurn(session)).toBe('rested');
  expect(room.peer.requests).toHaveLength(1);
});

it('a session that another process has, or that is none, is gone: nothing of it is touched', async () => {
  const session = await room.createSession({}, message('go'));
  await room.store.claimStream('wrkr_other', session);
  expect(await room.engine.runTurn(session)).toBe('gone');
  expect(await room.engine.runTurn(newId('session'))).toBe('gone');
  expect(room.peer.requests).toHaveLength(0);
});

it('an engine that has stopped refuses, so that whoever calls goes to another', async () => {
  const session = await room.createSession({}, message('go'));
  await room.engine.stop();
  await expect(room.engine.runTurn(session)).rejects.toThrow('the engine stops');
});
