/**
 * `--host-lost-after`: a host that is away for so long is given up without anybody's word; one that comes back in time
 * is not. Real processes; the host is killed under a command.
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { FleetProcesses, get, type Running, until } from './peers/fleet-processes.ts';

const lostAfterSeconds = 10;

let model: Rehearsal;
let fleet: FleetProcesses;
let api: Running;
let first: Running;

const urlOf = (running: Running): string => running.line.url ?? '';
type Event = { type: string; host?: string; is_error?: boolean; in_doubt?: boolean };
type Host = { id: string; status: string };

const bash = (command: string): Reply => ({ toolCalls: [{ name: 'bash', arguments: { command } }] });

function script({ toolOutputs }: Turn): Reply {
  if (toolOutputs.length === 0) return bash('echo before > c.txt; sleep 60');
  return toolOutputs.length === 1 ? bash('ls') : { text: `saw ${toolOutputs[1]?.text}` };
}

const eventsOf = async (session: string): Promise<Event[]> =>
  (await get<{ data: Event[] }>(urlOf(api), `/v1/sessions/${session}/events?limit=1000&order=asc`)).data;
const hosts = async (): Promise<Host[]> => (await get<{ data: Host[] }>(urlOf(api), '/v1/hosts')).data;
const connected = async (id: string): Promise<boolean> =>
  (await hosts()).some((one) => one.id === id && one.status === 'connected');

beforeAll(async () => {
  model = await startRehearsal({ script });
  fleet = await FleetProcesses.start(model.url);
  const limit = ['--host-lost-after', String(lostAfterSeconds)];
  [api] = await Promise.all([fleet.serve('api'), fleet.serve('engine', limit)]);
  first = await fleet.host('one', urlOf(api));
  await until(() => connected(first.line.host_id ?? ''), 'the host is connected');
}, 60_000);

afterAll(async () => {
  await fleet?.end();
  await model?.stop();
}, 30_000);

/** A session whose command runs on the one host there is. */
async function begun(): Promise<string> {
  const said = await fleet.cli(urlOf(api), ['run', 'work', '--detach']);
  const session = /sesn_[0-9A-Z]{26}/.exec(said)?.[0] ?? '';
  const folder = path.join(fleet.file('one'), 'sessions', session);
  const isRunning = (): boolean =>
    existsSync(folder) &&
    readdirSync(folder, { recursive: true }).some((name) => String(name).endsWith('c.txt'));
  await until(isRunning, 'the command runs');
  return session;
}

const idle = (session: string): Promise<void> =>
  until(
    async () => (await get<{ status: string }>(urlOf(api), `/v1/sessions/${session}`)).status === 'idle',
    'the session has come to rest',
  );

it('a host that comes back before its time is up keeps its sessions and their files', async () => {
  const session = await begun();
  first.child.kill('SIGKILL');
  await first.ended;
  const again = await fleet.host('one', urlOf(api));
  expect(again.line.host_id).toBe(first.line.host_id);
  first = again;
  await idle(session);
  const events = await eventsOf(session);
  expect(events.map(({ type }) => type)).not.toContain('workspace_lost');
  expect(JSON.stringify(events.findLast(({ type }) => type === 'agent.message'))).toContain('c.txt');
  expect(await connected(first.line.host_id ?? '')).toBe(true);
});

it('a host that stays away is given up by the engine: the session goes on elsewhere, and its loss is on record', async () => {
  const session = await begun();
  const lost = first.line.host_id ?? '';
  first.child.kill('SIGKILL');
  const second = await fleet.host('two', urlOf(api));
  await idle(session);
  const events = await eventsOf(session);
  expect(events.find(({ type }) => type === 'workspace_lost')).toMatchObject({ host: lost });
  expect(events.filter(({ type }) => type === 'agent.tool_result')).toMatchObject([
    { in_doubt: true, is_error: true },
    { is_error: false },
  ]);
  expect(JSON.stringify(events.findLast(({ type }) => type === 'agent.message'))).not.toContain('c.txt');
  expect(await hosts()).toContainEqual(expect.objectContaining({ id: lost, status: 'lost' }));
  expect(await connected(second.line.host_id ?? '')).toBe(true);
  const records = await fleet.query<{ body: string }>(
    `SELECT body::text AS body FROM resources WHERE kind = 'lost_host' AND id = $1`,
    [lost],
  );
  expect(records.map(({ body }) => JSON.parse(body))).toEqual([
    { by: 'engine', reason: expect.stringMatching(/^it was not connected for \d+ s$/) },
  ]);
});
