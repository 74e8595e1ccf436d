/**
 * Engines whose event loop is blocked for longer than their lease, each at another step of a session, on a real Postgres
 * with a real host. Another engine takes over; when they wake, in the middle of what they were about to do, they write
 * nothing and nothing runs twice (L3, L6). The witness is a file that every run of the command adds a line to.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { FleetProcesses, get, type Running, until } from './peers/fleet-processes.ts';

/** Longer than a lease of ten seconds and what a takeover takes. */
const blockMs = 12_500;
/** Where they are when it happens: each engine of the first three has one of these. */
const steps = [
  'model.after-response=block:MS',
  // The first intent is the model's, the second one the command's.
  'engine.after-intent-append=block:MS@2',
  'engine.after-dispatch=block:MS',
].map((step) => step.replace('MS', String(blockMs)));

function script({ toolOutputs: [output] }: Turn): Reply {
  if (output === undefined)
    return { toolCalls: [{ name: 'bash', arguments: { command: 'echo ran >> ran.txt; wc -l < ran.txt' } }] };
  return { text: `lines ${output.text}` };
}

type Story = { session: string; engine: Running; wasAt: string; before: Row[] };
type Row = { seq: number; type: string; fence: number | null };

let model: Rehearsal;
let fleet: FleetProcesses;
let api: Running;
const stories: Story[] = [];

const urlOf = (running: Running): string => running.line.url ?? '';
const rowsOf = (session: string): Promise<Row[]> =>
  fleet.query<Row>(
    'SELECT seq::int4 AS seq, type, fence::int4 AS fence FROM events WHERE stream = $1 ORDER BY seq',
    [session],
  );
const pids = async (): Promise<unknown[]> => {
  const workers = await fleet.query<{ info: string }>('SELECT info FROM workers', []);
  return workers.map(({ info }) => (JSON.parse(info) as { pid?: number }).pid);
};

/** A session that gets stuck together with the engine that drives it. */
async function stick(engines: Running[]): Promise<Story> {
  const said = await fleet.cli(urlOf(api), ['run', 'count', '--detach']);
  const session = /sesn_[0-9A-Z]{26}/.exec(said)?.[0] ?? '';
  const stuckAt = (engine: Running): string | undefined =>
    /failpoint (\S+) block at hit/.exec(engine.output())?.[1];
  const isNew = (engine: Running): boolean =>
    stuckAt(engine) !== undefined && !stories.some((one) => one.engine === engine);
  await until(() => engines.some(isNew), 'an engine is blocked');
  const engine = engines.find(isNew) as Running;
  return { session, engine, wasAt: stuckAt(engine) ?? '', before: await rowsOf(session) };
}

beforeAll(async () => {
  model = await startRehearsal({ script });
  fleet = await FleetProcesses.start(model.url);
  const starting = steps.map((failpoints) =>
    fleet.serve('engine', [], { SCRIPTORIUM_FAILPOINTS: failpoints }),
  );
  api = await fleet.serve('api');
  const engines = await Promise.all(starting);
  await fleet.host('one', urlOf(api));
  for (const _ of steps) stories.push(await stick(engines));
}, 60_000);

afterAll(async () => {
  await fleet?.end();
  await model?.stop();
}, 30_000);

/** All copies of the witness on the host's disk. */
function witnessed(session: string): string[] {
  const folder = path.join(fleet.file('one'), 'sessions', session, 'workspace');
  const copies = readdirSync(folder, { recursive: true }).filter((name) => String(name).endsWith('ran.txt'));
  return copies.map((name) => readFileSync(path.join(folder, String(name)), 'utf8'));
}

it('engines that are blocked past their lease before they write or start something wake up and do neither', async () => {
  expect(stories.map(({ wasAt }) => wasAt).sort()).toEqual([
    'engine.after-dispatch',
    'engine.after-intent-append',
    'model.after-response',
  ]);
  const sound = await fleet.serve('engine');
  // An engine that wakes finds that it is no member any more, and joins anew: by then it did what it would.
  for (const { engine } of stories)
    await until(() => engine.output().includes('is no member any more'), 'it learns that it was lost');
  await until(async () => {
    const living = await pids();
    return stories.every(({ engine }) => living.includes(engine.child.pid));
  }, 'they have joined again');
  for (const { session, before } of stories) {
    await until(
      async () => (await get<{ status: string }>(urlOf(api), `/v1/sessions/${session}`)).status === 'idle',
      'the session has come to rest',
    );
    const rows = await rowsOf(session);
    const fences = rows.flatMap(({ fence }) => fence ?? []);
    expect(fences).toEqual([...fences].sort((one, other) => one - other));
    // The blocked one wrote nothing after it was blocked; all else is the other's, under a fence of its own.
    const blockedFence = before.findLast(({ fence }) => fence !== null)?.fence;
    expect(rows.filter(({ fence }) => fence === blockedFence).at(-1)?.seq).toBe(before.at(-1)?.seq);
    expect(rows.filter(({ type }) => type === 'agent.tool_result')).toHaveLength(1);
    expect(witnessed(session)).toEqual(['ran\n']);
  }
  expect(sound.output()).not.toContain('is no member any more');
});
