/**
 * The engine over a real SQLite store and the real Responses wire; only the hands are a peer in memory. What is tested
 * is what crosses folders: recovery, order, interrupts, approvals, failures.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Script } from '../rehearsal/script.ts';
import { assembleEngine } from '../src/engine/assemble.ts';
import { asNew } from '../src/engine/drive.ts';
import type { Engine } from '../src/engine/engine.ts';
import { decide } from '../src/guard/guard.ts';
import { builtInPrices } from '../src/model/prices.ts';
import { newId } from '../src/protocol/ids.ts';
import type { Draft, PinnedTool, StopReason } from '../src/session/events.ts';
import { openBlobs, openStore } from '../src/store/open.ts';
import type { Blobs, Store, StoredEvent } from '../src/store/store.ts';
import { toolSchemas } from '../src/tools/toolset.ts';
import { MemoryExecutor, type MemoryProcess } from './peers/memory-executor.ts';

const tenant = { organization: 'org_test', project: 'proj_test' };
const limits = { memoryBytes: 1e9, processes: 100, openFiles: 100, tmpBytes: 1e6, fileBytes: 1e9 };

let directory: string;
let store: Store;
let blobs: Blobs;
let peer: Rehearsal;
let executor: MemoryExecutor;
let engine: Engine;
let errors: unknown[];

async function startEngine(): Promise<void> {
  engine = assembleEngine({
    store,
    blobs,
    executor,
    decide,
    model: { apiKey: 'sk-test', baseURL: peer.url },
    prices: builtInPrices,
    limits,
    onPreview: () => undefined,
    onError: (error) => errors.push(error),
    random: () => 0.01,
  });
  await engine.start();
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'scriptorium-engine-'));
  const summarizeModule = new URL('../src/session/summary.ts', import.meta.url);
  store = await openStore({ directory, summarizeModule });
  blobs = await openBlobs(join(directory, 'blobs'));
  executor = new MemoryExecutor();
  errors = [];
});

afterEach(async () => {
  await engine.stop();
  await peer.stop();
  await store.close();
  await rm(directory, { recursive: true, force: true });
  expect(errors).toEqual([]);
});

function event(type: string, payload: object, secret: object | null = null): Draft {
  const envelope = { actor: 'user:test', thread: 'sthr_1', turn: null, call: null, causation: null };
  return {
    id: newId('event'),
    type,
    ...envelope,
    audience: 'public',
    public: payload,
    private: secret,
  } as Draft;
}

function message(text: string, delivery?: 'steer'): Draft {
  return event('user.message', { content: [{ type: 'text', text }], ...(delivery ? { delivery } : {}) });
}

async function send(session: string, ...events: Draft[]): Promise<void> {
  const appended = await store.append({
    ...tenant,
    stream: session,
    events: events.map(asNew),
    wakeAt: Date.now(),
  });
  expect(appended.status).toBe('ok');
}

type Policies = Record<string, 'always_allow' | 'always_ask'>;

async function createSession(policies: Policies, ...inputs: Draft[]): Promise<string> {
  const session = newId('session');
  const tools = Object.entries(policies).map(
    ([name, policy]): PinnedTool => ({ kind: 'builtin', name, policy, isPure: name === 'read' }),
  );
  const created = event(
    'session.created',
    { title: null },
    {
      thread: 'sthr_1',
      agent: { id: 'agent_1', version: 1, name: 'tester' },
      environmentId: 'env_1',
      environment: {},
      prefix: {
        model: 'rehearsal-1',
        effort: null,
        instructions: 'Test.',
        tools: toolSchemas(Object.keys(policies)),
        maxOutputTokens: null,
        cacheKey: session,
      },
      tools,
      isolation: 'bubblewrap',
      repository: null,
      uploads: [],
      metadata: {},
      resources: [],
    },
  );
  const events = [created, ...inputs].map(asNew);
  const appended = await store.append({
    ...tenant,
    stream: session,
    create: true,
    events,
    wakeAt: Date.now(),
  });
  expect(appended.status).toBe('ok');
  return session;
}

async function logOf(session: string): Promise<StoredEvent[]> {
  return store.read(session, 0, 100_000);
}

async function until(session: string, isIt: (log: StoredEvent[]) => boolean): Promise<StoredEvent[]> {
  for (let tries = 0; tries < 2_000; tries++) {
    const log = await logOf(session);
    if (isIt(log)) return log;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(
    `never happened; the log is:\n${(await logOf(session)).map((e) => `${e.seq} ${e.type}`).join('\n')}`,
  );
}

function idles(log: StoredEvent[]): StopReason[] {
  return log.filter((e) => e.type === 'session.status_idle').map((e) => e.public.stop_reason as StopReason);
}

const idleAfter = (count: number) => (log: StoredEvent[]) => idles(log).length >= count;
const types = (log: StoredEvent[]) => log.map((e) => e.type);
const textsOf = (log: StoredEvent[], type: string) =>
  log.filter((e) => e.type === type).map((e) => JSON.stringify(e.public.content));

const bashThenText: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { toolCalls: [{ name: 'bash', arguments: { command: 'make test' } }] }
    : { text: `saw: ${turn.lastToolOutput?.text}` };

const prints =
  (text: string) =>
  (process: MemoryProcess): void =>
    process.write(text).exit();

async function withScript(script: Script): Promise<void> {
  peer = await startRehearsal({ script });
  await startEngine();
}

describe('a turn', () => {
  it('goes from message to tool to answer, in the order of the protocol, priced', async () => {
    executor.script = prints('all green\n');
    await withScript(bashThenText);
    const session = await createSession({ bash: 'always_allow' }, message('run the tests'));
    const log = await until(session, idleAfter(1));
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
    const row = await store.stream(tenant, session);
    expect(row?.summary).toMatchObject({ status: 'idle', stop_reason: { type: 'end_turn' } });
    expect(row?.summary?.cost_micros).toBeGreaterThan(0);
    expect(row?.owner).toBeNull();
  });

  it('answers two messages sent at once in two turns, in their order', async () => {
    await withScript((turn) => ({ text: `answer to ${turn.userText}` }));
    const session = await createSession({}, message('one'), message('two'));
    const log = await until(session, idleAfter(2));
    expect(textsOf(log, 'agent.message')).toEqual([
      expect.stringContaining('answer to one'),
      expect.stringContaining('answer to two'),
    ]);
  });

  it('hears a steering message before the next model call of the same turn', async () => {
    await withScript((turn) =>
      turn.userText === 'rather do this'
        ? { text: 'doing this' }
        : { toolCalls: [{ name: 'bash', arguments: { command: 'x' } }] },
    );
    const release = Promise.withResolvers<void>();
    executor.script = (process) => void release.promise.then(() => process.exit());
    const session = await createSession({ bash: 'always_allow' }, message('do that'));
    await until(session, (log) => types(log).includes('intent'));
    await send(session, message('rather do this', 'steer'));
    release.resolve();
    const log = await until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'turn.started')).toHaveLength(1);
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('doing this')]);
  });
});

describe('approvals', () => {
  it('parks without holding the session, and runs what was allowed after a restart', async () => {
    executor.script = prints('done');
    await withScript(bashThenText);
    const session = await createSession({ bash: 'always_ask' }, message('go'));
    const blocked = await until(session, idleAfter(1));
    const use = blocked.find((e) => e.type === 'agent.tool_use');
    expect(idles(blocked)).toEqual([{ type: 'requires_action', event_ids: [use?.id] }]);
    for (let tries = 0; engine.driving > 0 && tries < 200; tries++)
      await new Promise((r) => setTimeout(r, 5));
    expect(engine.driving).toBe(0);
    expect(executor.started).toHaveLength(0);
    await engine.stop();
    await startEngine();
    await send(session, event('user.tool_confirmation', { tool_use_id: use?.id, result: 'allow' }));
    const log = await until(session, idleAfter(2));
    expect(executor.started).toHaveLength(1);
    expect(idles(log).at(-1)).toEqual({ type: 'end_turn' });
  });

  it('never runs what was denied, and tells the model why', async () => {
    await withScript(bashThenText);
    const session = await createSession({ bash: 'always_ask' }, message('go'));
    const blocked = await until(session, idleAfter(1));
    const use = blocked.find((e) => e.type === 'agent.tool_use');
    const denial = { tool_use_id: use?.id, result: 'deny', deny_message: 'not on a Friday' };
    await send(session, event('user.tool_confirmation', denial));
    const log = await until(session, idleAfter(2));
    expect(executor.started).toHaveLength(0);
    expect(textsOf(log, 'agent.message')[0]).toContain('not on a Friday');
  });
});

describe('interrupts', () => {
  it('ends a running command and its turn, and goes on with the message sent along', async () => {
    executor.script = () => undefined; // runs for ever
    await withScript((turn) =>
      turn.userText === 'go'
        ? { toolCalls: [{ name: 'bash', arguments: { command: 'sleep 999' } }] }
        : { text: 'moved on' },
    );
    const session = await createSession({ bash: 'always_allow' }, message('go'));
    await until(session, () => executor.started.length > 0);
    await send(session, event('user.interrupt', {}), message('something else'));
    const log = await until(session, idleAfter(2));
    expect(executor.asked.filter((call) => call.method === 'terminateProcess')).toHaveLength(1);
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('interrupted');
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('moved on')]);
  });

  it('cuts the model off in mid-stream and publishes nothing of it', async () => {
    await withScript((turn) =>
      turn.userText === 'go' ? { text: 'x'.repeat(400), eventDelayMs: 50 } : { text: 'ok' },
    );
    const session = await createSession({}, message('go'));
    await until(session, (log) => types(log).includes('model.intent'));
    await send(session, event('user.interrupt', {}));
    const log = await until(session, idleAfter(1));
    expect(types(log)).not.toContain('agent.message');
    expect(log.filter((e) => e.type === 'span.model_request_end')).toHaveLength(1);
    expect(peer.requests).toHaveLength(1);
  });
});

describe('an engine that dies', () => {
  /** As kill -9 does: nothing is released, nothing is told to the host. */
  async function killAndReplace(): Promise<void> {
    await store.close(); // its appends fail from here on
    const dead = engine;
    store = await openStore({
      directory,
      summarizeModule: new URL('../src/session/summary.ts', import.meta.url),
    });
    await startEngine();
    await dead.stop().catch(() => undefined);
    errors.length = 0; // what the dead one complains of is its own affair
  }

  it('leaves a running command to the next one, which takes it up and runs it no second time (L6)', async () => {
    let running: MemoryProcess | undefined;
    executor.script = (process) => {
      running = process.write('half ');
    };
    await withScript(bashThenText);
    const session = await createSession({ bash: 'always_allow' }, message('go'));
    await until(session, () => executor.started.length > 0);
    await killAndReplace();
    running?.write('whole').exit();
    const log = await until(session, idleAfter(1));
    expect(executor.started).toHaveLength(1);
    expect(log.filter((e) => e.type === 'intent')).toHaveLength(1);
    expect(textsOf(log, 'agent.message')[0]).toContain('half whole');
    const fences = log.map((e) => e.fence ?? 0);
    expect(Math.max(...fences)).toBeGreaterThan(Math.min(...fences.filter((fence) => fence > 0)));
  });

  it('says that a command is in doubt when its host died with it, and runs it no second time (L6)', async () => {
    executor.script = () => undefined;
    await withScript(bashThenText);
    const session = await createSession({ bash: 'always_allow' }, message('go'));
    await until(session, () => executor.started.length > 0);
    executor.loseProcesses('the host restarted');
    await killAndReplace();
    const log = await until(session, idleAfter(1));
    const result = log.find((e) => e.type === 'agent.tool_result');
    expect(result?.public).toMatchObject({ is_error: true, in_doubt: true });
    expect(executor.started).toHaveLength(1);
  });

  it('in mid-request makes the next one ask the model again, with the same bytes', async () => {
    let asked = 0;
    await withScript((): { text: string } | { stallMs: number } =>
      asked++ === 0 ? { stallMs: 60_000 } : { text: 'here' },
    );
    const session = await createSession({}, message('go'));
    await until(session, () => asked > 0);
    await killAndReplace();
    const log = await until(session, idleAfter(1));
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
    await withScript(() =>
      asked++ < 2 ? { status: 529, body: { error: { message: 'overloaded' } } } : { text: 'back' },
    );
    const session = await createSession({}, message('go'));
    const log = await until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'timer.set')).toHaveLength(2);
    expect(log.filter((e) => e.type === 'session.status_rescheduled')).toHaveLength(2);
    expect(textsOf(log, 'agent.message')).toEqual([expect.stringContaining('back')]);
  });

  it('for good ends the turn with its reason, and the next message is tried anew', async () => {
    let isBroken = true;
    await withScript(() =>
      isBroken ? { status: 401, body: { error: { message: 'bad key' } } } : { text: 'fine now' },
    );
    const session = await createSession({}, message('go'));
    const log = await until(session, idleAfter(1));
    expect(idles(log)).toEqual([{ type: 'retries_exhausted' }]);
    expect(log.find((e) => e.type === 'session.error')?.public.error).toMatchObject({ reason: 'auth' });
    isBroken = false;
    await send(session, message('again'));
    const later = await until(session, idleAfter(2));
    expect(idles(later).at(-1)).toEqual({ type: 'end_turn' });
  });

  it('with absurd calls gets a result for each, or is asked again, and never breaks the log (L4)', async () => {
    const absurd = ['unknown_tool', 'not_json', 'duplicate_ids', 'five_hundred', 'huge_arguments'] as const;
    let asked = 0;
    await withScript(() => {
      const kind = absurd[asked++];
      return kind ? { absurdToolCalls: kind } : { text: 'sober' };
    });
    const session = await createSession({ bash: 'always_allow' }, message('go'));
    const log = await until(session, idleAfter(1));
    const uses = log.filter((e) => e.type === 'agent.tool_use').map((e) => e.id);
    const results = log.filter((e) => e.type === 'agent.tool_result').map((e) => e.public.tool_use_id);
    expect(results.sort()).toEqual(uses.sort());
    expect(idles(log)).toEqual([{ type: 'end_turn' }]);
  });
});
