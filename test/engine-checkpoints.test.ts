/**
 * Checkpoints, rollbacks and forks through the whole engine, with hands in memory: engines that die, hosts that refuse,
 * logs that are replayed.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import { asNew } from '../src/engine/drive.ts';
import { fsckStore } from '../src/engine/fsck.ts';
import { replaySession } from '../src/engine/replay.ts';
import { createOpenAiResponses } from '../src/model/openai-responses/index.ts';
import { defaultConfig } from '../src/protocol/environments.ts';
import { newId } from '../src/protocol/ids.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import type { StoredEvent } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, message, tenant, textsOf, typesOf } from './peers/engine-room.ts';
import { failing, type Method } from './peers/watched-store.ts';

const model = createOpenAiResponses({ apiKey: 'sk-none' });
const policies = { write: 'always_allow' } as const;

/** Writes what it is told into a file, and says how much it remembers. */
const script: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { toolCalls: [{ name: 'write', arguments: { file_path: '/workspace/a.txt', content: turn.userText } }] }
    : { text: `did ${turn.userText}` };

let room: EngineRoom;

const cheap = { driver: 'btrfs', limitBytes: null } as const;

beforeEach(() => {
  room = new EngineRoom();
  room.executor.disk = cheap;
});

afterEach(() => room.close());

const count = (log: StoredEvent[], type: string) => log.filter((e) => e.type === type).length;
const made = (times: number) => (log: StoredEvent[]) => count(log, 'checkpoint.created') === times;
const has = (type: string) => (log: StoredEvent[]) => count(log, type) > 0;

/** Two turns with a checkpoint each. */
async function lived(): Promise<{ session: string; log: StoredEvent[]; ids: string[] }> {
  const session = await room.createSession(policies, message('one'));
  await room.until(session, made(1));
  await room.send(session, message('two'));
  const log = await room.until(session, made(2));
  const ids = log.filter((e) => e.type === 'checkpoint.created').map((e) => String(e.public.checkpoint_id));
  return { session, log, ids };
}

async function sound(session: string): Promise<void> {
  expect(await replaySession(room.store, session, () => model)).toMatchObject({ firstDifference: null });
  expect((await fsckStore(room.store, tenant)).findings).toEqual([]);
}

const fenceOf = async (session: string): Promise<number> =>
  (await room.store.stream(tenant, session))?.fence ?? 0;

async function remove(session: string, checkpoint: string): Promise<void> {
  await room.executor.removeCheckpoint({ session, fence: await fenceOf(session), checkpoint });
}

/** What the model was asked last, as text. */
const asked = (): string => String(room.peer.requests.at(-1)?.body);

/** As the API writes it. */
async function fork(parent: string, log: StoredEvent[], checkpoint: string, text: string): Promise<string> {
  const session = newId('session');
  const at = log.find((e) => e.type === 'checkpoint.created' && e.public.checkpoint_id === checkpoint);
  const last = log.findIndex((e) => e.id === at?.public.at_event_id);
  const from = { from_session_id: parent, at_event_id: at?.public.at_event_id, checkpoint_id: checkpoint };
  const copied = log.slice(0, last + 1).map((e) => asNew(e as never));
  const own = [event('session.forked', from, { resources: [] }), message(text)].map(asNew);
  const events = [...copied, ...own];
  // As a client does: again while the store is away between two engines.
  for (let status = ''; status !== 'ok'; ) {
    const request = { ...tenant, stream: session, create: true, events, wakeAt: 1 };
    status = await room.store.append(request).then(
      (result) => (result.status === 'conflict' ? 'ok' : result.status),
      () => new Promise<string>((resolve) => setTimeout(() => resolve('away'), 5)),
    );
  }
  return session;
}

describe('a session whose disk is cheap to keep', () => {
  it('gets a checkpoint at the end of each turn that ran something, after it says it is idle', async () => {
    await room.open(script);
    const { session, log } = await lived();
    const idle = log.findIndex((e) => e.type === 'session.status_idle');
    const intent = log.findIndex((e) => e.type === 'checkpoint.intent');
    expect(intent).toBeGreaterThan(idle);
    expect(log[intent]?.public.at_event_id).toBe(log[idle]?.id);
    const ref = { session, fence: await fenceOf(session) };
    expect(await room.executor.checkpoints(ref)).toMatchObject({ checkpoints: [{}, {}] });
  });

  it('gets none where its environment says off', async () => {
    const config = { ...defaultConfig, checkpoints: 'off' } as unknown as JsonObject;
    room.config = { environment: { config } };
    await room.open(script);
    const session = await room.createSession(policies, message('one'), message('two'));
    expect(typesOf(await room.until(session, idleAfter(2)))).not.toContain('checkpoint.intent');
  });

  it('is asked for the next turn while one is made, but no tool runs before it is there, and it is made once', async () => {
    await room.open(script);
    const gate = Promise.withResolvers<void>();
    const make = room.executor.checkpoint.bind(room.executor);
    let times = 0;
    room.executor.checkpoint = async (request) => {
      times++;
      await gate.promise;
      return make(request);
    };
    const session = await room.createSession(policies, message('one'), message('two'));
    const log = await room.until(session, (all) => count(all, 'agent.tool_use') === 2);
    expect(count(log, 'intent')).toBe(1);
    expect(times).toBe(1);
    gate.resolve();
    const end = await room.until(session, idleAfter(2));
    const intents = end.filter((e) => e.type === 'intent');
    expect(intents[1]?.seq).toBeGreaterThan(end.find((e) => e.type === 'checkpoint.created')?.seq ?? 1e9);
  });

  it.each([
    ['refused', async () => ({ refused: 'no_space' as const, message: 'the disk is full' })],
    ['broken', () => Promise.reject(new TypeError('a bug in the host'))],
  ])('goes on to its next turn when one cannot be made (%s)', async (_how, refuse) => {
    await room.open(script);
    room.executor.checkpoint = refuse;
    const session = await room.createSession(policies, message('one'), message('two'));
    const log = await room.until(session, (all) => count(all, 'checkpoint.failed') === 2);
    expect(textsOf(log, 'agent.message').join()).toMatch(/did one.*did two/);
    expect(count(log, 'session.error')).toBe(0);
  });
});

describe('a rollback', () => {
  it('puts the files and the conversation back; what came after is in the log, and not shown to the model', async () => {
    await room.open(script);
    const { session, ids } = await lived();
    expect(room.executor.text('/workspace/a.txt')).toBe('two');
    await room.send(session, event('session.rollback_requested', { checkpoint_id: ids[0] }));
    await room.until(session, has('session.rolled_back'));
    expect(room.executor.text('/workspace/a.txt')).toBe('one');
    await room.send(session, message('three'));
    const log = await room.until(session, idleAfter(3));
    expect(asked()).toContain('did one');
    expect(asked()).not.toContain('did two');
    expect(textsOf(log, 'agent.message').join()).toContain('did two');
    await sound(session);
  });

  it('to a checkpoint that is gone leaves everything as it was, and says so', async () => {
    await room.open(script);
    const { session, ids } = await lived();
    await remove(session, ids[0] ?? '');
    await room.send(
      session,
      event('session.rollback_requested', { checkpoint_id: ids[0] }),
      message('three'),
    );
    const log = await room.until(session, idleAfter(3));
    expect(typesOf(log)).toContain('session.rollback_failed');
    expect(asked()).toContain('did two');
    await sound(session);
  });
});

describe('a fork', () => {
  it('from the middle goes on from there with the files of there, and its parent does not notice', async () => {
    await room.open(script);
    const { session: parent, log, ids } = await lived();
    const session = await fork(parent, log, ids[0] ?? '', 'another way');
    const own = await room.until(session, idleAfter(2));
    expect(typesOf(own).indexOf('workspace.restored')).toBeLessThan(typesOf(own).lastIndexOf('turn.started'));
    expect(asked()).toContain('did one');
    expect(asked()).not.toContain('did two');
    expect(room.executor.text('/workspace/a.txt')).toBe('another way');
    expect(await room.log(parent)).toHaveLength(log.length);
    await sound(session);
    await sound(parent);
  });

  it('of a checkpoint that is gone ends with the reason, and runs nothing on other files', async () => {
    await room.open(script);
    const { session: parent, log, ids } = await lived();
    await remove(parent, ids[0] ?? '');
    const session = await fork(parent, log, ids[0] ?? '', 'another way');
    const own = await room.until(session, has('session.status_terminated'));
    expect(JSON.stringify(own.findLast((e) => e.type === 'session.error')?.public)).toContain('fork');
    expect(count(own, 'turn.started')).toBe(1);
  });
});

const commits: Method[] = ['append', 'release'];

/** A life with checkpoints, a rollback and a fork, of an engine that dies at the n-th commit; false where there is none. */
async function survives(nth: number, when: 'before' | 'after'): Promise<boolean> {
  let calls = 0;
  let killed: Promise<void> | null = null;
  const hits = (method: Method) => {
    const isHit = killed === null && commits.includes(method) && ++calls === nth;
    return isHit ? when : null;
  };
  room = new EngineRoom();
  room.executor.disk = cheap;
  room.between = (store) =>
    failing(store, hits, () => {
      killed = room.killAndReplace();
    });
  await room.open(script);
  const { session, ids } = await lived();
  await room.send(session, event('session.rollback_requested', { checkpoint_id: ids[0] }));
  const log = await room.until(session, has('session.rolled_back'));
  expect(room.executor.text('/workspace/a.txt')).toBe('one');
  const other = await fork(session, log, ids[1] ?? '', 'another way');
  const forked = await room.until(other, made(3));
  await killed;
  expect(room.executor.text('/workspace/a.txt')).toBe('another way');
  expect(count(forked, 'workspace.restored')).toBe(1);
  expect(count(log, 'checkpoint.intent')).toBe(2);
  expect(count(log, 'checkpoint.created')).toBe(2);
  expect(count(log, 'session.rolled_back')).toBe(1);
  return killed !== null;
}

describe('an engine that is killed and replaced', () => {
  it.each(['before', 'after'] as const)(
    '%s any one commit of a life with checkpoints, a rollback and a fork makes each once',
    { timeout: 240_000 },
    async (when) => {
      await room.open(script);
      let nth = 1;
      for (let isHit = true; isHit; nth++) {
        await room.close();
        isHit = await survives(nth, when);
      }
      expect(nth).toBeGreaterThan(10);
    },
  );
});
