import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { EngineRoom, event, idleAfter, message, tenant } from '../../test/peers/engine-room.ts';
import { encodeState, snapshotReader } from '../session/snapshot.ts';
import { initialState, type SessionState } from '../session/state.ts';
import { asNew } from './drive.ts';
import { FoldedSessions, foldStored } from './folded-sessions.ts';
import { fsckStream } from './fsck.ts';

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

/** A log that is worth a snapshot, at rest; its snapshot is there. */
async function longSession(): Promise<number> {
  const events = Array.from({ length: 600 }, (_, n) => asNew(event('session.updated', { title: `t${n}` })));
  await room.store.append({ ...tenant, stream: session, events });
  await room.send(session, message('go on'));
  await room.until(session, idleAfter(2));
  await vi.waitFor(async () => expect(await room.store.snapshot(session)).not.toBeNull());
  return (await room.store.snapshot(session))?.seq ?? 0;
}

const plain = (state: SessionState) => ({ ...state, history: state.history.toArray() });

it('begins a long log that nobody knows any more at the snapshot that was kept when it came to rest', async () => {
  const seq = await longSession();
  const log = await room.log(session);
  expect(seq).toBe(log.length);
  await room.store.append({ ...tenant, stream: session, events: [asNew(event('session.updated', {}))] });
  const read = vi.spyOn(room.store, 'read');
  const state = await new FoldedSessions(room.store).fold(session);
  expect(read.mock.calls.map(([, afterSeq]) => afterSeq)).toEqual([seq]);
  expect(plain(state)).toEqual(plain((await room.log(session)).reduce(foldStored, initialState)));
});

it.each([
  ['there is none', () => Promise.resolve(null)],
  ['the store fails', () => Promise.reject(new Error('injected'))],
  ['another release wrote it', () => Promise.resolve({ seq: 9, reader: snapshotReader + 1, data: {} })],
  ['it is no state', () => Promise.resolve({ seq: 9, reader: snapshotReader, data: { seq: 9 } })],
  [
    'it says another sequence than it is of',
    () => Promise.resolve({ seq: 9, reader: snapshotReader, data: encodeState(initialState) }),
  ],
])('folds the whole log to the same state where %s instead of a snapshot', async (_why, snapshot) => {
  await longSession();
  const expected = (await room.log(session)).reduce(foldStored, initialState);
  vi.spyOn(room.store, 'snapshot').mockImplementation(snapshot);
  expect(plain(await new FoldedSessions(room.store).fold(session))).toEqual(plain(expected));
});

it('a session whose snapshots are all lost is driven on as if there had never been one', async () => {
  await longSession();
  vi.spyOn(room.store, 'snapshot').mockResolvedValue(null);
  await room.killAndReplace();
  vi.spyOn(room.store, 'snapshot').mockResolvedValue(null);
  await room.send(session, message('and on'));
  await room.until(session, idleAfter(3));
  expect(room.errors).toEqual([]);
});

it('a snapshot that cannot be kept fails nothing, and short logs get none', async () => {
  const save = vi.spyOn(room.store, 'saveSnapshot').mockRejectedValue(new Error('injected'));
  const folded = new FoldedSessions(room.store);
  folded.rested(session, { state: { ...initialState, seq: 499 }, snapshotSeq: 0 });
  await folded.settled();
  expect(save).not.toHaveBeenCalled();
  folded.rested(session, { state: { ...initialState, seq: 500 }, snapshotSeq: 0 });
  folded.rested(session, { state: { ...initialState, seq: 999 }, snapshotSeq: 0 });
  await folded.settled();
  expect(save).toHaveBeenCalledTimes(1);
});

it('fsck names the snapshot that is not what its log folds to (L1)', async () => {
  const seq = await longSession();
  const row = await room.store.stream(tenant, session);
  if (row === null) throw new Error('no row');
  expect((await fsckStream(room.store, row)).findings.filter(({ promise }) => promise === 'L1')).toEqual([]);
  const kept = await room.store.snapshot(session);
  const data = { ...kept?.data, title: 'another' };
  vi.spyOn(room.store, 'snapshot').mockResolvedValue({ seq, reader: snapshotReader, data });
  const { findings } = await fsckStream(room.store, row);
  expect(findings).toContainEqual({
    stream: session,
    promise: 'L1',
    seq,
    message: 'its snapshot differs from the log in title',
  });
});
