// A whole server whose disk refuses to sync: it says so, pauses, and goes on where it was once the disk is repaired (L2, L8).
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { processesNaming } from '../chaos/process-table.ts';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { openStore } from '../src/store/open.ts';
import { Disk, hasCompiler } from './peers/disk.ts';
import { until } from './peers/fleet-processes.ts';

const patience = { timeout: 90_000 };
const entry = path.resolve(import.meta.dirname, '../src/cli/main.ts');
const canRun = hasCompiler();
if (!canRun)
  process.stderr.write('SKIPPED: the test of a server on a failing disk needs a C compiler (cc)\n');

type Event = { id: string; type: string; content?: { text?: string }[] };

let disk: Disk;
let model: Rehearsal;
let child: ChildProcess;
let url = '';
let key = '';

function script({ userText }: Turn): Reply {
  if (userText === 'slow') return { text: 'word '.repeat(40), deltaChars: 5, eventDelayMs: 25 };
  return { text: `You said ${userText}.` };
}

beforeEach(async () => {
  if (!canRun) return;
  disk = new Disk();
  model = await startRehearsal({ script });
  const clean = Object.entries(process.env).filter(([name]) => !/^(SCRIPTORIUM|OPENAI|VITEST)/.test(name));
  child = spawn(process.execPath, [entry, 'up', '--json', '--port', '0'], {
    env: {
      ...Object.fromEntries(clean),
      ...disk.env(),
      SCRIPTORIUM_DATA_DIR: path.join(disk.root, 'data'),
      SCRIPTORIUM_MODEL: 'rehearsal-1',
      OPENAI_API_KEY: 'played',
      OPENAI_BASE_URL: model.url,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until(() => said.includes('\n') || child.exitCode !== null, 'the server says where it is');
  ({ url, api_key: key } = JSON.parse(said.split('\n')[0] ?? '') as { url: string; api_key: string });
}, 60_000);

afterEach(async () => {
  child?.kill('SIGKILL');
  await model?.stop();
  if (!canRun) return;
  for (const pid of processesNaming(path.join(disk.root, 'data', 'host'))) process.kill(pid, 'SIGKILL');
  disk.discard();
}, 30_000);

async function ask<T>(method: string, place: string, body?: object, request?: string) {
  const headers: Record<string, string> = { authorization: `Bearer ${key}` };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (request !== undefined) headers['idempotency-key'] = request;
  const text = body === undefined ? null : JSON.stringify(body);
  const response = await fetch(url + place, { method, headers, body: text });
  return { status: response.status, body: (await response.json()) as T };
}

const say = (text: string) => ({ events: [{ type: 'user.message', content: [{ type: 'text', text }] }] });

async function newSession(): Promise<string> {
  type Made = { id: string };
  const agent = await ask<Made>('POST', '/v1/agents', { name: 'a', model: 'rehearsal-1' });
  const environment = await ask<Made>('POST', '/v1/environments', { name: 'e' });
  const body = { agent: agent.body.id, environment_id: environment.body.id };
  return (await ask<Made>('POST', '/v1/sessions', body)).body.id;
}

const eventsOf = async (place: string): Promise<Event[]> =>
  (await ask<{ data: Event[] }>('GET', `${place}?limit=500`)).body.data;
const countOf = async (place: string, wanted: string) =>
  (await eventsOf(place)).filter(({ type }) => type === wanted).length;

describe.runIf(canRun)('a server on a disk that says EIO', () => {
  it(
    'refuses and pauses, in the middle of a turn too, and when it is repaired it finishes that turn once',
    patience,
    async () => {
      const session = await newSession();
      const place = `/v1/sessions/${session}/events`;
      await ask('POST', place, say('one'));
      await until(async () => (await countOf(place, 'session.status_idle')) === 1, 'the first turn ends');
      await ask('POST', place, say('slow'));
      await until(() => model.requests.length === 2, 'the model speaks');
      disk.break('scriptorium.db-wal');
      for (let tries = 0; tries < 3; tries++)
        expect(await ask('POST', place, say('two'), 'the-key')).toMatchObject({ status: 503 });
      const before = await eventsOf(place);
      expect(before.filter(({ type }) => type === 'user.message')).toHaveLength(2);
      // Longer than the model speaks: its answer comes, and cannot be written.
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      expect(await eventsOf(place)).toEqual(before);
      disk.repair();
      await until(
        async () => (await ask('POST', place, say('two'), 'the-key')).status === 200,
        'it takes it',
      );
      await until(async () => {
        const events = await eventsOf(place);
        return (
          events.at(-1)?.type === 'session.status_idle' &&
          events.some(({ content }) => content?.[0]?.text === 'You said two.')
        );
      }, 'both turns end');
      const after = await eventsOf(place);
      const texts = after
        .filter(({ type }) => type === 'user.message')
        .map(({ content }) => content?.[0]?.text);
      expect(texts).toEqual(['one', 'slow', 'two']);
      expect(after.filter(({ content }) => content?.[0]?.text?.startsWith('word'))).toHaveLength(1);
      await expectAfterPowerCut(session, after);
    },
  );
});

/** What a client was shown is on the disk. */
async function expectAfterPowerCut(session: string, shown: Event[]): Promise<void> {
  child.kill('SIGKILL');
  await until(() => child.signalCode !== null, 'the server is dead');
  const image = path.join(disk.folder, 'image');
  disk.cut(image);
  const summarizeModule = new URL('../src/session/summary.ts', import.meta.url);
  const store = await openStore({ directory: path.join(image, 'data', 'store'), summarizeModule });
  const kept = new Set((await store.read(session, 0, 1_000)).map(({ id }) => id));
  await store.close();
  expect(shown.filter(({ id }) => !kept.has(id))).toEqual([]);
}
