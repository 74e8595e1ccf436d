/**
 * An engine that dies, or whose store fails, at every single append of a turn, once before and once after the commit;
 * and a store that fails at every claim and every read.
 * Small scope, but exhaustive: the turn has a tool that asks, two that run, a failing provider and a queued message.
 */
import { describe, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import type { Store, StoredEvent } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, idles, message, textsOf } from './peers/engine-room.ts';
import { failing, type Method } from './peers/watched-store.ts';

type When = 'before' | 'after';

const commits: Method[] = ['append', 'release'];
const others: Method[] = ['claim', 'read'];

/** Lets calls of these methods through until the n-th, which fails before or after it was done. */
class Faulty {
  count = 0;
  hit = false;
  readonly at: number;
  readonly when: When;
  readonly methods: readonly Method[];
  onHit: () => void = () => undefined;

  constructor(at: number, when: When, methods: readonly Method[]) {
    this.at = at;
    this.when = when;
    this.methods = methods;
  }

  wrap(store: Store): Store {
    const isHit = (method: Method): boolean => {
      if (this.hit || !this.methods.includes(method) || ++this.count !== this.at) return false;
      this.hit = true;
      return true;
    };
    return failing(store, (method) => (isHit(method) ? this.when : null), this.onHit);
  }
}

/** The provider is overloaded once in each life. */
function newScript(): Script {
  let overloads = 1;
  return (turn) => {
    if (turn.userText === 'second') return { text: 'second done' };
    switch (turn.toolOutputs.length) {
      case 0:
        return overloads-- > 0
          ? { status: 529, body: { error: { message: 'overloaded' } } }
          : { toolCalls: [1, 2].map((n) => ({ name: 'bash', arguments: { command: `effect ${n}` } })) };
      case 2:
        return { toolCalls: [{ name: 'write', arguments: { file_path: '/workspace/a.txt', content: 'a' } }] };
      default:
        return { text: 'first done' };
    }
  };
}

async function live(fault: Faulty, isCrash: boolean): Promise<{ room: EngineRoom; log: StoredEvent[] }> {
  const room = new EngineRoom();
  room.executor.script = (process) => process.write('ok').exit();
  let killed = Promise.resolve();
  fault.onHit = () => {
    if (isCrash) killed = room.killAndReplace();
  };
  room.between = (store) => fault.wrap(store);
  await room.open(newScript());
  const policies = { bash: 'always_allow', write: 'always_ask' } as const;
  const session = await room.createSession(policies, message('first'), message('second'));
  const asked = await room.until(session, (log) =>
    idles(log).some((reason) => reason.type === 'requires_action'),
  );
  await killed;
  const use = asked.findLast((e) => e.type === 'agent.tool_use');
  await room.send(session, event('user.tool_confirmation', { tool_use_id: use?.id, result: 'allow' }));
  const log = await room.until(session, idleAfter(3));
  await killed;
  return { room, log };
}

async function holds(fault: Faulty, isCrash: boolean): Promise<boolean> {
  const { room, log } = await live(fault, isCrash);
  try {
    const uses = log.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
    const results = log
      .filter((e) => e.type === 'agent.tool_result')
      .map((e) => String(e.public.tool_use_id));
    expect(results.sort()).toEqual(uses.sort()); // L4
    expect(uses).toHaveLength(3);
    const effects = room.executor.started.map((call) => call.argv.join(' ').match(/effect \d/)?.[0]);
    expect(effects.sort()).toEqual(['effect 1', 'effect 2']); // L6: each once
    expect(room.executor.text('/workspace/a.txt')).toBe('a');
    expect(textsOf(log, 'agent.message').join()).toMatch(/first done.*second done/);
    expect(log.map((e) => e.seq)).toEqual(log.map((_, index) => index + 1));
    const starts = log.filter((e) => e.type === 'span.model_request_start').map((e) => e.id);
    const ends = log
      .filter((e) => e.type === 'span.model_request_end')
      .map((e) => String(e.public.model_request_start_id));
    expect(ends.sort()).toEqual(starts.sort());
  } finally {
    await room.close();
  }
  return fault.hit;
}

describe.each([
  { what: 'a store that fails once (L8)', isCrash: false, methods: commits },
  { what: 'a store that fails once at what is no append (L8)', isCrash: false, methods: others },
  { what: 'an engine that is killed and replaced', isCrash: true, methods: commits },
])('$what', ({ isCrash, methods }) => {
  it.each(['before', 'after'] as const)(
    '%s any one call loses nothing and repeats nothing',
    { timeout: 120_000 },
    async (when) => {
      const atOnce = 4;
      let points = 0;
      for (let hits = atOnce; hits === atOnce; points += hits) {
        const batch = Array.from({ length: atOnce }, (_, index) =>
          holds(new Faulty(points + index + 1, when, methods), isCrash),
        );
        hits = (await Promise.all(batch)).filter(Boolean).length;
      }
      expect(points).toBeGreaterThan(methods === commits ? 8 : 4); // the matrix did reach into the turn
    },
  );
});
