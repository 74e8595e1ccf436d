/**
 * Limits, whole: an environment asks for them over the API of a real server with an operator's maxima, its sandbox has
 * them, the model reads what it ran into, and the log says it. The model is the rehearsal and runs what it is told.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { type RunningServer, startServer } from '../src/main.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import { findCgroups } from '../src/sandbox/local/cgroup.ts';
import { eventually } from './escapes/rig.ts';

const hasGroups = findCgroups().kind !== 'none';

function script(turn: Turn): Reply {
  if (turn.lastToolOutput) return { text: turn.lastToolOutput.text };
  return { toolCalls: [{ name: 'bash', arguments: { command: turn.userText } }] };
}

let directory: string;
let model: Rehearsal;
let server: RunningServer;
let agent: string;
let names = 0;

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'scriptorium-limits-'));
  const limitsFile = path.join(directory, 'limits.json');
  const maxima = { memory_bytes: 128 << 20, wall_time_ms: 20_000 };
  writeFileSync(limitsFile, JSON.stringify({ maxima, defaults: { processes: 64 } }));
  model = await startRehearsal({ script });
  const key = { apiKey: 'sk-test', baseURL: model.url };
  server = await startServer({ dataDir: path.join(directory, 'data'), port: 0, model: key, limitsFile });
  const tools = [
    { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_allow' } } },
  ];
  agent = String((await api('POST', '/v1/agents', { name: 'limited', model: 'gpt-5.2', tools })).id);
});

afterAll(async () => {
  await server?.close();
  await model?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function ask(method: string, where: string, body?: unknown): Promise<[number, JsonObject]> {
  const response = await fetch(new URL(where, server.url), {
    method,
    headers: { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return [response.status, (await response.json()) as JsonObject];
}

async function api(method: string, where: string, body?: unknown): Promise<JsonObject> {
  const [status, answer] = await ask(method, where, body);
  if (status !== 200) throw new Error(`${method} ${where}: ${status} ${JSON.stringify(answer)}`);
  return answer;
}

const environment = (limits: object) =>
  ask('POST', '/v1/environments', { name: `room ${names++}`, config: { type: 'cloud', limits } });

/** One command in a new session with these limits: its whole log. */
async function logOf(limits: object, command: string): Promise<JsonObject[]> {
  const [status, room] = await environment(limits);
  expect(status).toBe(200);
  const initial_events = [{ type: 'user.message', content: [{ type: 'text', text: command }] }];
  const made = await api('POST', '/v1/sessions', { agent, environment_id: room.id, initial_events });
  let log: JsonObject[] = [];
  await eventually('the turn ends', async () => {
    log = (await api('GET', `/v1/sessions/${made.id}/events?limit=1000`)).data as JsonObject[];
    return log.some(({ type }) => type === 'session.status_idle');
  });
  return log;
}

const of = (log: JsonObject[], type: string) => log.filter((event) => event.type === type);

it('more than the operator allows is refused, by the field', async () => {
  const [status, { error }] = await environment({ memory_bytes: 256 << 20 });
  expect([status, error]).toEqual([
    400,
    expect.objectContaining({
      message: expect.stringContaining('config.limits.memory_bytes: 268435456 is above the maximum'),
      details: { error_code: 'limit_out_of_range' },
    }),
  ]);
});

it('a session that asks for nothing has the defaults, under the maxima; the rest is its environment’s', async () => {
  const log = await logOf({ open_files: 100 }, 'ulimit -n');
  const [started] = of(log, 'sandbox.started');
  expect(started?.limits).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ limit: 'open_files', value: 100, by: 'rlimit' }),
      expect.objectContaining({ limit: 'memory_bytes', value: 128 << 20 }),
      expect.objectContaining({ limit: 'processes', value: 64 }),
      { limit: 'wall_time_ms', value: 20_000, by: 'host' },
    ]),
  );
  expect(JSON.stringify(of(log, 'agent.message'))).toContain('100');
});

it('a call that runs into its time is told to the model, and in the log beside its result', async () => {
  const log = await logOf({ wall_time_ms: 1_000 }, 'echo begun; sleep 30');
  const [told] = of(log, 'sandbox.limit_reached');
  const [result] = of(log, 'agent.tool_result');
  expect(told).toMatchObject({ limit: 'wall_time_ms', value: 1_000, call_id: result?.tool_use_id });
  expect(JSON.stringify(of(log, 'agent.message'))).toContain(
    'begun\\n\\n[The call reached the time limit of 1 s',
  );
});

it.runIf(hasGroups)('memory and processor are those of the environment', async () => {
  const eat = `perl -e 'my @all; push @all, "x" x 1000000 while 1'; perl -e 'my $end = time + 2; 1 while time < $end'`;
  const log = await logOf({ memory_bytes: 48 << 20, cpu_cores: 0.1 }, eat);
  const told = of(log, 'sandbox.limit_reached').map(({ limit, value }) => [limit, value]);
  expect(told).toEqual(
    expect.arrayContaining([
      ['memory_bytes', 48 << 20],
      ['cpu_cores', 0.1],
    ]),
  );
});
