/**
 * What people send in the very instant in which the engine writes: before each kind of append, and before the release.
 * Nothing slips between the fold and the intent (L3), nothing that was sent is slept through, and every call has its
 * result (L4).
 */
import { describe, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import type { Draft } from '../src/session/events.ts';
import type { Append, StoredEvent } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, idles, message, tenant, textsOf } from './peers/engine-room.ts';
import { through } from './peers/watched-store.ts';

/** Overloaded once, then a command, then a word. */
function newScript(): Script {
  let overloads = 1;
  return (turn) => {
    if (turn.userText !== 'go') return { text: `heard ${turn.userText}` };
    if (turn.toolOutputs.length > 0) return { text: 'done' };
    return overloads-- > 0
      ? { status: 529, body: { error: { message: 'overloaded' } } }
      : { toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] };
  };
}

/** A life into which `drafts` are sent right before the engine's first append with an event of this type. */
async function live(type: string, ...drafts: Draft[]): Promise<{ room: EngineRoom; session: string }> {
  const room = new EngineRoom();
  room.executor.script = (process) => process.write('ran').exit();
  let isSent = false;
  room.between = (store) =>
    through(store, async (method, args, go) => {
      const types = method === 'append' ? (args[0] as Append).events.map((e) => e.type) : [];
      if (!isSent && (types.includes(type) || method === type)) {
        isSent = true;
        await room.send(String(method === 'append' ? (args[0] as Append).stream : args[0]), ...drafts);
      }
      return go();
    });
  await room.open(newScript());
  const session = await room.createSession({ bash: 'always_allow' }, message('go'));
  return { room, session };
}

async function atRest(room: EngineRoom, session: string): Promise<StoredEvent[]> {
  for (let tries = 0; tries < 1_000; tries++) {
    const row = await room.store.stream(tenant, session);
    if (row?.owner === null && row.wakeAt === null) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect(await room.store.stream(tenant, session)).toMatchObject({ owner: null, wakeAt: null });
  return room.log(session);
}

const places = [
  'turn.started',
  'model.intent',
  'timer.set',
  'timer.fired',
  'model.response',
  'intent',
  'agent.tool_result',
  'session.status_idle',
  'release',
];

describe.each(places)('right before the engine writes %s', (place) => {
  it('an interrupt lets nothing begin any more, and is processed', async () => {
    const interrupt = event('user.interrupt', {});
    const { room, session } = await live(place, interrupt);
    try {
      await room.until(session, idleAfter(1));
      const log = await atRest(room, session);
      const from = log.findIndex((e) => e.id === interrupt.id);
      expect(from).toBeGreaterThan(0);
      const processed = log.findIndex(
        (e) => e.type === 'input.processed' && (e.public.event_ids as string[]).includes(interrupt.id),
      );
      expect(processed).toBeGreaterThan(from);
      const between = log.slice(from, processed).map((e) => e.type);
      expect(between).not.toContain('model.intent');
      expect(between).not.toContain('intent');
      const uses = log.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
      const results = log.filter((e) => e.type === 'agent.tool_result').map((e) => e.public.tool_use_id);
      expect(results).toEqual(uses);
      expect(idles(log).at(-1)).toEqual({ type: 'end_turn' });
      expect(room.errors).toEqual([]);
    } finally {
      await room.close();
    }
  });

  it('a message is heard, once', async () => {
    const { room, session } = await live(place, message('me too'));
    try {
      const log = await room.until(session, idleAfter(2));
      await atRest(room, session);
      expect(textsOf(log, 'agent.message').filter((said) => said.includes('heard me too'))).toHaveLength(1);
      expect(room.executor.started).toHaveLength(1);
      expect(room.errors).toEqual([]);
    } finally {
      await room.close();
    }
  });
});
