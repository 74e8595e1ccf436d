/**
 * The engine over a real SQLite store and the real Responses wire; only the hands are a peer in memory. What is tested
 * is what crosses folders: recovery, order, interrupts, approvals, failures.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import {
  EngineRoom,
  event,
  idleAfter,
  idles,
  message,
  tenant,
  textsOf,
  typesOf,
} from './peers/engine-room.ts';
import type { MemoryProcess } from './peers/memory-executor.ts';

const bashThenText: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { toolCalls: [{ name: 'bash', arguments: { command: 'make test' } }] }
    : { text: `saw: ${turn.lastToolOutput?.text}` };

const prints =
  (text: string) =>
  (process: MemoryProcess): void =>
    process.write(text).exit();

let room: EngineRoom;

beforeEach(() => {
  room = new EngineRoom();
});

afterEach(async () => {
  await room.close();
  expect(room.errors).toEqual([]);
});

describe('a turn', () => {
  it('goes from message to tool to answer, in the order of the protocol, priced', async () => {
    room.executor.script = prints('all green\n');
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_allow' }, message('run the tests'));
    const log = await room.until(session, idleAfter(1));
    const shown = log.filter((e) => e.audience === 'public').map((e) => e.type);
    expect(shown).toEqual([
      'session.created',
      'user.message',
      'session.status_running',
      'session.thread_status_running',
      'span.model_request_start',
      'agent.tool_use',
      'span.model_request_end',
      'sandbox.started',
      'agent.tool_result',
      'span.model_request_start',
      'agent.message',
      'span.model_request_end',
      'session.thread_status_idle',
      'session.usage',
      'session.status_idle',
    ]);
    expect(textsOf(log, 'agent.message')[0]).toContain('all green');
    const row = await room.store.stream(tenant, session);
    expect(row?.summary).toMatchObject({ status: 'idle', stop_reason: { type: 'end_turn' } });
    expect(row?.summary?.cost_micros).toBeGreaterThan(0);
    expect(row?.owner).toBeNull();
  });

  it('answers two messages sent at once in two turns, in their order', async () => {
    await room.open((turn) => ({ text: `answer to ${turn.userText}` }));
    const session = await room.createSession({}, message('one'), message('two'));
    const log = await room.until(session, idleAfter(2));
    expect(textsOf(log, 'agent.message')).toEqual([
      expect.stringContaining('answer to one'),
      expect.stringContaining('answer to two'),
    ]);
  });

  it('hears a steering message before the next model call of the same turn', async () => {
    await room.open((turn) =>
      turn.userText === 'rather do this'
        ? { text: 'doing this' }
        : { toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] },
    );
    const release = Promise.withResolvers<void>();
    room.executor.script = (process) => void release.promise.then(() => process.exit());
    const session = await room.createSession({ bash: 'always_allow' }, message('do that'));
    await room.until(session, (log) => typesOf(log).includes('intent'));
    await room.send(session, message('rather do this', 'steer'));
    release.resolve();
    const log = await room.until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'turn.started')).toHaveLength(1);
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('doing this')]);
  });
});

describe('approvals', () => {
  it('parks without holding the session, and runs what was allowed after a restart', async () => {
    room.executor.script = prints('done');
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_ask' }, message('go'));
    const blocked = await room.until(session, idleAfter(1));
    const use = blocked.find((e) => e.type === 'agent.tool_use');
    expect(idles(blocked)).toEqual([{ type: 'requires_action', event_ids: [use?.id] }]);
    for (let tries = 0; room.engine.driving > 0 && tries < 200; tries++)
      await new Promise((r) => setTimeout(r, 5));
    expect(room.engine.driving).toBe(0);
    expect(room.executor.started).toHaveLength(0);
    await room.engine.stop();
    await room.startEngine();
    await room.send(session, event('user.tool_confirmation', { tool_use_id: use?.id, result: 'allow' }));
    const log = await room.until(session, idleAfter(2));
    expect(room.executor.started).toHaveLength(1);
    expect(idles(log).at(-1)).toEqual({ type: 'end_turn' });
  });

  it('never runs what was denied, and tells the model why', async () => {
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_ask' }, message('go'));
    const blocked = await room.until(session, idleAfter(1));
    const use = blocked.find((e) => e.type === 'agent.tool_use');
    const denial = { tool_use_id: use?.id, result: 'deny', deny_message: 'not on a Friday' };
    await room.send(session, event('user.tool_confirmation', denial));
    const log = await room.until(session, idleAfter(2));
    expect(room.executor.started).toHaveLength(0);
    expect(textsOf(log, 'agent.message')[0]).toContain('not on a Friday');
  });
});

describe('interrupts', () => {
  it('ends a running command and its turn, and goes on with the message sent along', async () => {
    room.executor.script = () => undefined; // runs for ever
    await room.open((turn) =>
      turn.userText === 'go'
        ? { toolCalls: [{ name: 'bash', arguments: { command: 'sleep 999' } }] }
        : { text: 'moved on' },
    );
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    await room.send(session, event('user.interrupt', {}), message('something else'));
    const log = await room.until(session, idleAfter(2));
    expect(room.executor.asked.filter((call) => call.method === 'terminateProcess')).toHaveLength(1);
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('interrupted');
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('moved on')]);
  });

  it('cuts the model off in mid-stream and publishes nothing of it', async () => {
    await room.open((turn) =>
      turn.userText === 'go' ? { text: 'x'.repeat(400), eventDelayMs: 50 } : { text: 'ok' },
    );
    const session = await room.createSession({}, message('go'));
    await room.until(session, () => room.peer.requests.length > 0);
    await room.send(session, event('user.interrupt', {}));
    const log = await room.until(session, idleAfter(1));
    expect(typesOf(log)).not.toContain('agent.message');
    expect(log.filter((e) => e.type === 'span.model_request_end')).toHaveLength(1);
    expect(room.peer.requests).toHaveLength(1);
  });
});

describe('an engine that dies', () => {
  it('leaves a running command to the next one, which takes it up and runs it no second time (L6)', async () => {
    let running: MemoryProcess | undefined;
    room.executor.script = (process) => {
      running = process.write('half ');
    };
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    await room.killAndReplace();
    running?.write('whole').exit();
    const log = await room.until(session, idleAfter(1));
    expect(room.executor.started).toHaveLength(1);
    expect(log.filter((e) => e.type === 'intent')).toHaveLength(1);
    expect(textsOf(log, 'agent.message')[0]).toContain('half whole');
    const fences = log.map((e) => e.fence ?? 0);
    expect(Math.max(...fences)).toBeGreaterThan(Math.min(...fences.filter((fence) => fence > 0)));
  });

  it('says that a command is in doubt when its host died with it, and runs it no second time (L6)', async () => {
    room.executor.script = () => undefined;
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    room.executor.loseProcesses('the host restarted');
    await room.killAndReplace();
    const log = await room.until(session, idleAfter(1));
    const result = log.find((e) => e.type === 'agent.tool_result');
    expect(result?.public).toMatchObject({ is_error: true, in_doubt: true });
    expect(room.executor.started).toHaveLength(1);
  });

  it('in mid-request makes the next one ask the model again, with the same bytes', async () => {
    let asked = 0;
    await room.open((): { text: string } | { stallMs: number } =>
      asked++ === 0 ? { stallMs: 60_000 } : { text: 'here' },
    );
    const session = await room.createSession({}, message('go'));
    await room.until(session, () => asked > 0);
    await room.killAndReplace();
    const log = await room.until(session, idleAfter(1));
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('here')]);
    const intents = log.filter((e) => e.type === 'model.intent').map((e) => e.private?.requestSha256);
    expect(new Set(intents).size).toBe(1);
    expect(intents).toHaveLength(2);
    expect(log.filter((e) => e.type === 'span.model_request_end')).toHaveLength(2);
  });
});

describe('a provider that fails', () => {
  it('is asked again after a rest that survives in the log, and the turn ends well', async () => {
    let asked = 0;
    await room.open(() =>
      asked++ < 2 ? { status: 529, body: { error: { message: 'overloaded' } } } : { text: 'back' },
    );
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    const timers = log.filter((e) => e.type === 'timer.set');
    expect(timers).toHaveLength(2);
    for (const { public: timer } of timers) {
      const fired = log.find((e) => e.type === 'timer.fired' && e.public.timer_id === timer.timer_id);
      expect(String(fired?.time) >= String(timer.at)).toBe(true);
    }
    expect(log.filter((e) => e.type === 'session.status_rescheduled')).toHaveLength(2);
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('back')]);
  });

  it('in mid-stream takes back what streams were shown, by an event, and shows the next attempt under fresh ids', async () => {
    let asked = 0;
    await room.open(() =>
      asked++ === 0 ? { breakAfterEvents: 8, reply: { text: 'never to be finished' } } : { text: 'whole' },
    );
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    const shown = room.previews.flatMap((frame) => (frame.type === 'event_start' ? [frame] : []));
    const superseded = log.filter((e) => e.type === 'preview.superseded').map((e) => e.public);
    expect(superseded).toEqual([
      { model_request_start_id: shown[0]?.model_request_start_id, event_ids: [shown[0]?.event.id] },
    ]);
    expect(log.find((e) => e.type === 'agent.message')?.id).toBe(shown[1]?.event.id);
    expect(shown[1]?.event.id).not.toBe(shown[0]?.event.id);
  });

  it('for good ends the turn with its reason, and the next message is tried anew', async () => {
    let isBroken = true;
    await room.open(() =>
      isBroken ? { status: 401, body: { error: { message: 'bad key' } } } : { text: 'fine now' },
    );
    const session = await room.createSession({}, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'retries_exhausted' }]);
    expect(log.find((e) => e.type === 'session.error')?.public.error).toMatchObject({ reason: 'auth' });
    isBroken = false;
    await room.send(session, message('again'));
    const later = await room.until(session, idleAfter(2));
    expect(idles(later).at(-1)).toEqual({ type: 'end_turn' });
  });

  it('with absurd calls gets a result for each, or is asked again, and never breaks the log (L4)', async () => {
    const absurd = ['unknown_tool', 'not_json', 'duplicate_ids', 'five_hundred', 'huge_arguments'] as const;
    let asked = 0;
    await room.open(() => {
      const kind = absurd[asked++];
      return kind ? { absurdToolCalls: kind } : { text: 'sober' };
    });
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    const uses = log.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
    const results = log.filter((e) => e.type === 'agent.tool_result').map((e) => e.public.tool_use_id);
    expect(results.sort()).toEqual(uses.sort());
    expect(idles(log)).toEqual([{ type: 'end_turn' }]);
  });
});
