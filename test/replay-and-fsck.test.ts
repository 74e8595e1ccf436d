import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fsckStore } from '../src/engine/fsck.ts';
import { replaySession } from '../src/engine/replay.ts';
import { createOpenAiResponses } from '../src/model/openai-responses/index.ts';
import type { Store, StoredEvent } from '../src/store/store.ts';
import { EngineRoom, idleAfter, message, tenant } from './peers/engine-room.ts';

let room: EngineRoom;
let session: string;
const model = createOpenAiResponses({ apiKey: 'sk-none' });

beforeEach(async () => {
  room = new EngineRoom();
  room.executor.script = (process) => process.write('ok').exit();
  await room.open((turn) =>
    turn.toolOutputs.length < 2
      ? { reasoning: 'hm', toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] }
      : { text: 'done' },
  );
  session = await room.createSession({ bash: 'always_allow' }, message('one'), message('two'));
  await room.until(session, idleAfter(2));
});

afterEach(() => room.close());

/** The same store with one member changed on the way out. */
function withChanged(change: (event: StoredEvent) => StoredEvent | null): Store {
  return new Proxy(room.store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== 'function') return member;
      if (name !== 'read') return member.bind(target);
      return async (...args: Parameters<Store['read']>) => {
        const events = await target.read(...args);
        return events.flatMap((event) => change(structuredClone(event)) ?? []);
      };
    },
  });
}

describe('replay', () => {
  it('derives every request of a session again, byte for byte (L7)', async () => {
    const replay = await replaySession(room.store, session, () => model);
    expect(replay).toMatchObject({ requests: 6, unrendered: 0, firstDifference: null, isErased: false });
  });

  it('names the first request that differs when one word of the past is changed', async () => {
    let results = 0;
    const forged = withChanged((event) => {
      if (event.type === 'agent.tool_result' && ++results === 1)
        event.public.content = [{ type: 'text', text: 'not ok' }];
      return event;
    });
    const replay = await replaySession(forged, session, () => model);
    const log = await room.log(session);
    const second = log.filter((event) => event.type === 'model.intent')[1];
    expect(replay.firstDifference).toMatchObject({
      seq: second?.seq,
      recordedSha256: second?.private?.requestSha256,
    });
  });
});

describe('fsck', () => {
  it('finds nothing in a store that is as it should be', async () => {
    const result = await fsckStore(room.store, tenant);
    expect(result).toMatchObject({ streams: 1, findings: [] });
    expect(result.events).toBe((await room.log(session)).length);
  });

  it.each([
    ['L3', 'a missing event', (e: StoredEvent) => (e.seq === 7 ? null : e)],
    [
      'L3',
      'an owner who wrote after a later one',
      (e: StoredEvent) => (e.seq === 7 ? { ...e, fence: 99 } : e),
    ],
    [
      'L3',
      'a clock that went back',
      (e: StoredEvent) => (e.seq === 9 ? { ...e, time: '2000-01-01T00:00:00.000Z' } : e),
    ],
    [
      'L4',
      'a call without a result',
      (e: StoredEvent) => (e.type === 'agent.tool_result' ? { ...e, type: 'x' } : e),
    ],
    [
      'L1',
      'a summary that says something else than the log',
      (e: StoredEvent) => (e.type === 'session.status_idle' ? { ...e, type: 'x' } : e),
    ],
  ] as const)('finds (%s) %s', async (promise, _what, change) => {
    const { findings } = await fsckStore(withChanged(change), tenant);
    expect(findings.map((finding) => finding.promise)).toContain(promise);
  });
});
