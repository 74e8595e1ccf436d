/**
 * What an engine does when its store or its listeners fail around it: nothing is lost, nothing else is disturbed (L8),
 * nothing spins. Over the real store, with failures put in between.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Append, Claim } from '../src/store/store.ts';
import { StoreUnavailable } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, idles, message, tenant, textsOf } from './peers/engine-room.ts';
import { failing, type Method, through } from './peers/watched-store.ts';

let room: EngineRoom;

beforeEach(() => {
  room = new EngineRoom();
});

afterEach(async () => {
  await room.close();
});

const appends = (method: Method, args: unknown[], type: string, session?: string): boolean =>
  method === 'append' &&
  (args[0] as Append).events.some((e) => e.type === type) &&
  (session === undefined || (args[0] as Append).stream === session);

const text = (error: unknown) => (error instanceof Error ? error.message : String(error));

describe('a store that fails', () => {
  it('for longer than one attempt to come back leaves no session behind that nobody drives (L8)', async () => {
    let failures = 0;
    room.between = (store) =>
      failing(store, (method, args) => {
        if (failures === 0 && !appends(method, args, 'model.response')) return null;
        if (method === 'nextWakeAt' || failures >= 4) return null;
        failures++;
        return 'before';
      });
    await room.open(() => ({ text: 'here' }));
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(failures).toBe(4);
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('here')]);
  });

  it('for one session lets the model calls of all others go on (L8: the turn, and only the turn)', async () => {
    let failFor: string | null = null;
    room.between = (store) =>
      failing(store, (method, args) => {
        if (failFor === null || !appends(method, args, 'model.response', failFor)) return null;
        failFor = null;
        return 'before';
      });
    const answer = Promise.withResolvers<void>();
    await room.open(async (turn) => {
      if (turn.userText === 'slow') await answer.promise;
      return { text: 'done' };
    });
    const slow = await room.createSession({}, message('slow'));
    await room.until(slow, () => room.peer.requests.length > 0);
    const failed = await room.createSession({});
    failFor = failed;
    await room.send(failed, message('fails once'));
    await room.until(failed, idleAfter(1));
    answer.resolve();
    const log = await room.until(slow, idleAfter(1));
    expect(log.filter((e) => e.type === 'model.intent')).toHaveLength(1);
  });

  it('after it gave sessions out, before the engine heard of them, keeps none of them for ever', async () => {
    let hits = 0;
    room.between = (store) =>
      through(store, async (method, _args, go) => {
        const result = await go();
        const isHit = method === 'claim' && (result as Claim[]).length > 0 && hits++ === 0;
        if (isHit) throw new StoreUnavailable('injected');
        return result;
      });
    await room.open(() => ({ text: 'here' }));
    const session = await room.createSession({}, message('go'));
    await room.until(session, idleAfter(1));
    expect(hits).toBeGreaterThan(1);
  });

  it('while it gives sessions out leaves no session with a driver that hears nothing', async () => {
    let isDown = false;
    room.between = (store) => failing(store, (method) => (isDown && method === 'claim' ? 'before' : null));
    await room.open((turn) => (turn.userText === 'slow' ? { stallMs: 60_000 } : { text: 'ok' }));
    const slow = await room.createSession({}, message('slow'));
    await room.until(slow, () => room.peer.requests.length > 0);
    isDown = true;
    const other = await room.createSession({}, message('go'));
    await room.until(other, () => room.errors.length > 0);
    isDown = false;
    await room.until(other, idleAfter(1));
    await room.until(slow, (log) => log.filter((e) => e.type === 'model.intent').length === 2);
    await room.send(slow, event('user.interrupt', {}));
    await room.until(slow, idleAfter(1));
  });
});

describe('a house that is full', () => {
  it('asks the store nothing until somebody leaves, however many sessions are due', async () => {
    room.slots = 1;
    let asked = 0;
    room.between = (store) =>
      through(store, (method, _args, go) => {
        if (method === 'claim' || method === 'nextWakeAt') asked++;
        return go();
      });
    const answer = Promise.withResolvers<void>();
    await room.open(async (turn) => {
      if (turn.userText === 'first') await answer.promise;
      return { text: 'done' };
    });
    const first = await room.createSession({}, message('first'));
    await room.until(first, () => room.peer.requests.length > 0);
    const second = await room.createSession({}, message('second'));
    await new Promise((resolve) => setTimeout(resolve, 50)); // what was asked before has come back
    const before = asked;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(asked - before).toBe(0);
    answer.resolve();
    await room.until(first, idleAfter(1));
    await room.until(second, idleAfter(1));
  });
});

describe('a session that breaks its driver', () => {
  it('by a bug in its hands is told of, and comes back', async () => {
    await room.open((turn) =>
      turn.toolOutputs.length === 0
        ? { toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] }
        : { text: 'done' },
    );
    room.executor.script = (process) => process.exit();
    const start = room.executor.createSandbox.bind(room.executor);
    room.executor.createSandbox = (spec) => {
      room.executor.createSandbox = start;
      return Promise.reject(new TypeError(`a bug at ${spec.session}`));
    };
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, idleAfter(1));
    expect(room.errors.map(text)).toEqual([`a bug at ${session}`]);
    expect(room.executor.started).toHaveLength(1);
  });

  it('at every attempt is stopped with the reason, its calls closed first, and tries anew at the next message (L4)', async () => {
    // Behind the store's clock: what is put aside is due at once.
    room.aheadMs = -1_000_000;
    await room.open((turn) =>
      turn.userText === 'go' && turn.toolOutputs.length === 0
        ? { toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] }
        : { text: 'done' },
    );
    room.executor.createSandbox = () => Promise.reject(new TypeError('a bug for ever'));
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'retries_exhausted' }]);
    expect(room.errors.map(text)).toEqual(Array.from({ length: 10 }, () => 'a bug for ever'));
    const ending = log.slice(log.findIndex((e) => e.type === 'intent') + 1).map((e) => e.type);
    expect(ending.slice(0, 3)).toEqual(['agent.tool_result', 'session.error', 'turn.ended']);
    expect(log.find((e) => e.type === 'agent.tool_result')?.public).toMatchObject({ in_doubt: true });
    expect(log.find((e) => e.type === 'session.error')?.public.error).toEqual({
      type: 'unknown_error',
      message: 'The engine failed 10 times in a row at this turn and stopped it: a bug for ever',
      retry_status: { type: 'exhausted' },
    });
    await room.send(session, message('again'));
    expect(idles(await room.until(session, idleAfter(2))).at(-1)).toEqual({ type: 'end_turn' });
    expect(room.errors).toHaveLength(10);
  });

  it('under a command that runs leaves no command behind when its turn is stopped (S5)', async () => {
    room.aheadMs = -1_000_000;
    await room.open(() => ({ toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] }));
    room.executor.script = () => undefined;
    const [read, end] = [room.executor.readProcess, room.executor.terminateProcess];
    room.executor.readProcess = () => Promise.reject(new TypeError('a bug at its output'));
    const ended: string[] = [];
    room.executor.terminateProcess = async (request) => {
      ended.push(request.callId);
      return end.call(room.executor, request);
    };
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'retries_exhausted' }]);
    const callId = String(log.find((e) => e.type === 'intent')?.public.tool_use_id);
    // The end is in the log first.
    while (!ended.includes(callId)) await sleep(10);
    room.executor.readProcess = read;
    const { fence = 1 } = log.findLast((e) => e.fence !== null) ?? {};
    const status = await room.executor.callStatus({ session, fence: fence ?? 1, callId });
    expect(status).toMatchObject({ kind: 'process', process: { state: 'exited' } });
  });

  it('by a model call that breaks each time is stopped too, though every attempt writes its intent (G3)', async () => {
    room.aheadMs = -1_000_000;
    await room.open(() => ({ text: 'done' }));
    room.between = (store) => {
      let broken = true;
      return through(store, (method, args, go) => {
        if (appends(method, args, 'session.error')) broken = false;
        if (broken && appends(method, args, 'model.response')) throw new TypeError('a bug at the answer');
        return go();
      });
    };
    await room.engine.stop();
    await room.startEngine();
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'retries_exhausted' }]);
    const calls = log.filter((e) => e.type === 'model.intent').map((e) => String(e.call));
    expect(calls).toHaveLength(10);
    for (const id of calls) expect((await room.store.reservation(tenant, id))?.settledAt).not.toBeNull();
    await room.send(session, message('again'));
    expect(idles(await room.until(session, idleAfter(2))).at(-1)).toEqual({ type: 'end_turn' });
  });

  it('by a log that cannot be folded stays aside, and is told of, when even the stop cannot be written', async () => {
    room.aheadMs = -1_000_000;
    await room.open(() => ({ text: 'done' }));
    const broken = await room.createSession({}, message('go'), event('turn.started', {}));
    await room.until(broken, () => room.errors.length > 12);
    expect((await room.log(broken)).map((e) => e.type)).toEqual([
      'session.created',
      'user.message',
      'turn.started',
    ]);
  });

  it('even by a log that cannot be folded is put aside, not kept, and others go on', async () => {
    await room.open(() => ({ text: 'done' }));
    const broken = await room.createSession({}, message('go'), event('turn.started', {}));
    const sound = await room.createSession({}, message('go'));
    await room.until(sound, idleAfter(1));
    for (let tries = 0; tries < 400 && room.engine.driving > 0; tries++)
      await new Promise((resolve) => setTimeout(resolve, 5));
    const row = await room.store.stream(tenant, broken);
    expect(row?.owner).toBeNull();
    expect(row?.wakeAt).not.toBeNull();
    expect(room.errors.length).toBeGreaterThan(0);
  });
});

describe('an engine that stops', () => {
  it('leaves no model stream open behind it (S5)', async () => {
    await room.open(() => ({ stallMs: 60_000 }));
    const session = await room.createSession({}, message('go'));
    await room.until(session, () => room.peer.requests.length > 0);
    await room.engine.stop();
    await room.until(session, () => room.peer.requests[0]?.isAborted === true);
    expect(await room.store.stream(tenant, session)).toMatchObject({ owner: null });
  });
});

describe('a listener that throws', () => {
  it('on a preview hurts neither the model call nor the turn', async () => {
    room.onPreview = () => {
      throw new Error('a broken viewer');
    };
    await room.open(() => ({ text: 'done' }));
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(room.peer.requests).toHaveLength(1);
    expect(log.filter((e) => e.type === 'model.intent')).toHaveLength(1);
    expect(room.errors.map(text)).toContain('a broken viewer');
  });

  it('on an error leaves the engine at work and the process alive', async () => {
    room.onError = () => {
      throw new Error('a broken log file');
    };
    await room.open(() => ({ text: 'done' }));
    await room.createSession({}, message('go'), event('turn.started', {}));
    const sound = await room.createSession({}, message('go'));
    const log = await room.until(sound, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'end_turn' }]);
  });
});
