/**
 * What models and people put into payloads, and what the log makes of it: what was folded, what runs and what is read
 * back are one and the same (L7, G2), no payload breaks a session, and money is counted once everywhere (G3). The room
 * compares every payload with its own reading back; `errors` would say so.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { asStored } from '../src/engine/drive.ts';
import { foldStored } from '../src/engine/folded-sessions.ts';
import { fold, foldAll } from '../src/session/fold.ts';
import { initialState } from '../src/session/state.ts';
import { EngineRoom, event, idleAfter, idles, message, tenant, textsOf } from './peers/engine-room.ts';

let room: EngineRoom;

beforeEach(() => {
  room = new EngineRoom();
  room.executor.script = (process) => process.write('ran').exit();
});

afterEach(async () => {
  await room.close();
  expect(room.errors).toEqual([]);
});

/** One call with these arguments, then a word. */
const calls = (name: string, text: string) => (turn: { toolOutputs: unknown[] }) =>
  turn.toolOutputs.length === 0 ? { toolCalls: [{ name, arguments: text }] } : { text: 'done' };

describe('arguments of a tool call', () => {
  it.each([
    ['numbers that no JSON holds', '{"command":"x","timeout_ms":1e999}'],
    ['a number below zero that is none', '{"command":"x","timeout_ms":-0}'],
    ['a key that is a prototype', '{"command":"x","__proto__":{"restart":true}}'],
    ['half a character', '{"command":"\\ud800"}'],
    ['a key that comes twice', '{"command":"x","command":"y"}'],
  ])('with %s are folded as they are read back (L7)', async (_what, text) => {
    await room.open(calls('bash', text));
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'agent.tool_result')).toHaveLength(1);
    expect(idles(log)).toEqual([{ type: 'end_turn' }]);
  });

  it.each([200, 3_000, 20_000])(
    'nested %i levels deep end in a result, not in a session that never ends',
    async (depth) => {
      const deep = `{"command":${'['.repeat(depth)}${']'.repeat(depth)}}`;
      await room.open(calls('bash', deep));
      const session = await room.createSession({ bash: 'always_allow' }, message('go'));
      const log = await room.until(session, idleAfter(1));
      expect(room.peer.requests).toHaveLength(2);
      expect(textsOf(log, 'agent.tool_result')).toHaveLength(1);
      expect(room.executor.started).toHaveLength(0);
    },
  );

  it('of a tool named like a member of every object are denied, and the turn goes on', async () => {
    await room.open(calls('constructor', '{}'));
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('denied');
  });
});

describe('money', () => {
  it('for answers that were noise is in session.usage as it is in the summary (G3)', async () => {
    let asked = 0;
    await room.open(() => (asked++ === 0 ? { absurdToolCalls: 'duplicate_ids' } : { text: 'sober' }));
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    const row = await room.store.stream(tenant, session);
    const said = log.findLast((e) => e.type === 'session.usage')?.public.usage;
    const spans = log
      .filter((e) => e.type === 'span.model_request_end')
      .map((e) => Number(e.public.cost_micros));
    expect(spans).toHaveLength(2);
    expect(log.filter((e) => e.type === 'agent.tool_use')).toEqual([]);
    expect(spans[0]).toBeGreaterThan(0);
    expect(row?.summary?.cost_micros).toBe((spans[0] ?? 0) + (spans[1] ?? 0));
    expect(said).toMatchObject({ cost_micros: row?.summary?.cost_micros });
  });
});

describe('a log', () => {
  it('of types that this version does not know is folded past them, and its session works on', async () => {
    await room.open(() => ({ text: 'done' }));
    const future = [
      event('session.enlightened', { by: 1 }),
      event('turn.dreamt', { of: ['sheep'] }, { x: 1 }),
    ];
    const session = await room.createSession({}, ...future, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'end_turn' }]);
  });

  it('that was erased can still be read through, by a driver that comes too late', async () => {
    await room.open(() => ({ text: 'done' }));
    const session = await room.createSession({}, message('go'), message('go on'));
    await room.until(session, idleAfter(2));
    await room.store.append({
      ...tenant,
      stream: session,
      events: [event('session.deleted', {})] as never,
      eraseStream: true,
    });
    const erased = await room.log(session);
    expect(erased.every((e) => e.erased)).toBe(true);
    expect(() => erased.reduce(foldStored, initialState)).not.toThrow();
    expect(erased.reduce(foldStored, initialState)).toMatchObject({ seq: erased.length, isDeleted: true });
  });

  it('of ten thousand events costs no more a step than a short one: nothing is copied that grew', async () => {
    await room.open(() => ({ text: 'done' }));
    const session = await room.createSession({}, message('go'));
    const log = (await room.until(session, idleAfter(1))).map(asStored);
    const turn = log.slice(1);
    let state = foldAll(log.slice(0, 1));
    let copied = 0;
    const { slice } = Array.prototype;
    const spy = vi.spyOn(Array.prototype, 'slice').mockImplementation(function (this: unknown[], ...args) {
      copied += this.length;
      return slice.apply(this, args);
    });
    for (let n = 0; n < 1_000; n++) {
      for (const e of turn) state = fold(state, { ...e, seq: state.seq + 1 });
    }
    spy.mockRestore();
    expect(state).toMatchObject({ queue: [], calls: [], interrupts: [] });
    expect(state.history.length).toBe(2_000);
    expect(copied).toBeLessThan(state.history.length);
  });
});
