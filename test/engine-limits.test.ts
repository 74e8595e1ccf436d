// Limits between an engine and its hands: what a session's environment asks for is what its sandbox is made with, and
// what ran into a limit is in the log, once.
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import { defaultConfig } from '../src/protocol/environments.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import type { LimitHit, SandboxSpec } from '../src/sandbox/executor.ts';
import { EngineRoom, idleAfter, message } from './peers/engine-room.ts';

const bashThenText: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { toolCalls: [{ name: 'bash', arguments: { command: 'make test' } }] }
    : { text: `saw: ${turn.lastToolOutput?.text}` };
const allowed = { bash: 'always_allow' } as const;
const hit = (limit: LimitHit['limit'], value: number, amount: number | null): LimitHit => ({
  ...{ limit, value, amount, atMs: 1_700_000_000_000 },
});

let room: EngineRoom;
beforeEach(() => {
  room = new EngineRoom();
});
afterEach(async () => {
  await room.close();
  expect(room.errors).toEqual([]);
});

it('what the environment asks for is what the sandbox is made with; the rest is the server’s', async () => {
  const specs: SandboxSpec[] = [];
  const start = room.executor.createSandbox.bind(room.executor);
  room.executor.createSandbox = (spec) => {
    specs.push(spec);
    return start(spec);
  };
  const limits = { cpu_cores: 0.5, memory_bytes: 1e5, disk_bytes: 5e8, wall_time_ms: 9_000 };
  room.config = { environment: { config: { ...defaultConfig, limits } as unknown as JsonObject } };
  await room.open(bashThenText);
  const session = await room.createSession(allowed, message('go'));
  await room.until(session, idleAfter(1));
  expect(specs[0]?.limits).toEqual({
    ...{ cpuCores: 0.5, memoryBytes: 1e5, diskBytes: 5e8, wallTimeMs: 9_000 },
    // A tmpfs is charged as memory: it gets no more than half of it.
    ...{ processes: 100, openFiles: 100, tmpBytes: 5e4, fileBytes: 1e9 },
  });
});

it('what a call ran into is told beside its result, once, also by the engine that takes it over', async () => {
  const reached = [hit('memory_bytes', 1e9, 2), hit('cpu_cores', 0.5, 800)];
  room.executor.script = (process) => {
    setTimeout(() => process.exit({ exitCode: 137, limits: reached }), 300);
  };
  await room.open(bashThenText);
  const session = await room.createSession(allowed, message('go'));
  await room.until(session, (log) => room.executor.started.length > 0 && log.length > 0);
  await room.killAndReplace();
  const log = await room.until(session, idleAfter(1));
  const told = log.filter(({ type }) => type === 'sandbox.limit_reached');
  const result = log.filter(({ type }) => type === 'agent.tool_result');
  expect(told.map((e) => e.public)).toEqual([
    {
      ...{ limit: 'memory_bytes', value: 1e9, amount: 2, at: '2023-11-14T22:13:20.000Z' },
      call_id: result[0]?.call,
      message: 'The sandbox reached its memory limit of 953.7 MiB: 2 processes were killed.',
    },
    expect.objectContaining({ limit: 'cpu_cores', value: 0.5, amount: 800 }),
  ]);
  expect(result).toHaveLength(1);
});

it('what ran into a limit between two calls is told with the next, as of none of them', async () => {
  const start = room.executor.createSandbox.bind(room.executor);
  room.executor.createSandbox = async (spec) => {
    const limitHits = [hit('idle_time_ms', 60_000, null)];
    return { ...(await start(spec)), limitHits };
  };
  await room.open(bashThenText);
  const session = await room.createSession(allowed, message('go'));
  const log = await room.until(session, idleAfter(1));
  const told = log.filter(({ type }) => type === 'sandbox.limit_reached');
  expect(told.map(({ public: { limit, call_id } }) => [limit, call_id])).toEqual([['idle_time_ms', null]]);
});
