// `scriptorium fsck` and `replay` as people type them: real processes, beside a running server and after it has gone.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Rehearsal } from '../../rehearsal/peer.ts';
import { startRehearsal } from '../../rehearsal/peer.ts';
import type { RunningServer } from '../../src/main.ts';
import { startServer } from '../../src/main.ts';
import { masterKeyOf, openPayload, sealPayload, unwrapStreamKey } from '../../src/store/seal.ts';

const entry = path.resolve(import.meta.dirname, '../../src/cli/main.ts');
const slow = { timeout: 60_000 };

let directory: string;
let peer: Rehearsal;
let server: RunningServer | null;
let session: string;
let by: string[];

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-checks-'));
  peer = await startRehearsal({ script: (turn) => ({ text: `You said: ${turn.userText}` }) });
  const model = { apiKey: 'played', baseURL: peer.url };
  server = await startServer({ dataDir: directory, port: 0, model });
  by = ['--url', server.url, '--api-key', server.apiKey];
  const agent = await made('/v1/agents', { name: 'a', model: 'rehearsal-1' });
  const environment_id = await made('/v1/environments', { name: 'e' });
  session = await made('/v1/sessions', { agent, environment_id, initial_events: [say('One.')] });
  await resting();
  await made(`/v1/sessions/${session}/events`, { events: [say('Two.')] });
  await resting();
}, 60_000);

afterEach(async () => {
  await server?.close();
  await peer.stop();
  await rm(directory, { recursive: true, force: true });
}, 60_000);

const say = (text: string) => ({ type: 'user.message', content: [{ type: 'text', text }] });

async function ask(method: string, where: string, body?: object): Promise<Record<string, unknown>> {
  const headers = { authorization: `Bearer ${server?.apiKey}`, 'content-type': 'application/json' };
  const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  return (await fetch(`${server?.url}${where}`, init)).json() as Promise<Record<string, unknown>>;
}

async function made(where: string, body: object): Promise<string> {
  return String((await ask('POST', where, body)).id);
}

async function resting(): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if ((await ask('GET', `/v1/sessions/${session}`)).status === 'idle') return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the session never rested');
}

async function stopServer(): Promise<void> {
  await server?.close();
  server = null;
}

type Run = { code: number; stdout: string; stderr: string };

function cli(...args: string[]): Promise<Run> {
  const clean = Object.entries(process.env).filter(([name]) => !/^(SCRIPTORIUM|OPENAI|VITEST)/.test(name));
  const env = { ...Object.fromEntries(clean), NO_COLOR: '1', SCRIPTORIUM_DATA_DIR: directory };
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

function withDatabase<T>(work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(path.join(directory, 'store', 'scriptorium.db'));
  try {
    return work(db);
  } finally {
    db.close();
  }
}

/** Says something else in a message of the past, as one could who has the master key. */
async function forge(from: string, to: string): Promise<void> {
  const master = masterKeyOf(await readFile(path.join(directory, 'store', 'keys', 'master.key')));
  withDatabase((db) => {
    const wrapped = db.prepare('SELECT wrapped FROM stream_keys WHERE stream = ?').get(session)?.wrapped;
    const key = unwrapStreamKey(master, session, wrapped as Uint8Array);
    const rows = db.prepare(`SELECT id, public FROM events WHERE stream = ? AND type = 'user.message'`);
    for (const row of rows.all(session)) {
      const place = [session, String(row.id), 'public'];
      const { text } = openPayload(key, place, row.public as Uint8Array);
      const forged = text.replace(from, to);
      const { sealed } = sealPayload(key, place, forged, JSON.parse(forged));
      if (forged !== text)
        db.prepare('UPDATE events SET public = ? WHERE id = ?').run(sealed, row.id ?? null);
    }
  });
}

it('fsck and replay say that all is well, through the server and without it', slow, async () => {
  const short = session.slice(-8).toLowerCase();
  const served = await cli('fsck', '--json', ...by);
  expect([served.code, served.stderr]).toEqual([0, '']);
  const report = JSON.parse(served.stdout);
  expect(report).toMatchObject({ holds: true, by: `${server?.url}/`, streams: 2, omitted: 0, findings: [] });
  expect((await cli('replay', short, ...by)).stdout).toContain('2 model requests derived again');
  await stopServer();
  const alone = await cli('fsck', '--json');
  expect([alone.code, JSON.parse(alone.stdout)]).toEqual([0, { ...report, by: null }]);
  expect((await cli('fsck')).stdout).toMatch(/^ok all promises hold: \d+ events in 2 logs\n$/);
  const replayed = await cli('replay', short, '--json');
  expect([replayed.code, JSON.parse(replayed.stdout)]).toMatchObject([
    0,
    { session_id: session, requests: 2, unrendered: 0, first_difference: null, by: null },
  ]);
});

it(
  'fsck names stream, event and promise of a leaf with one byte changed, and exits with 1',
  slow,
  async () => {
    await stopServer();
    withDatabase((db) => {
      const set = 'UPDATE events SET leaf_hash = zeroblob(32) WHERE stream = ? AND seq = 3';
      db.prepare(set).run(session);
    });
    const said = await cli('fsck');
    expect(said.code).toBe(1);
    expect(said.stdout).toContain(`G4 ${session} seq 3: its leaf hash`);
    expect(said.stdout).toMatch(/\n1 finding in \d+ events in 2 logs\n$/);
    const { code, stdout } = await cli('fsck', '--json');
    expect([code, JSON.parse(stdout)]).toMatchObject([
      1,
      { holds: false, findings: [{ stream: session, seq: 3, promise: 'G4' }] },
    ]);
  },
);

it(
  'replay names the first request that differs where a word of the past was forged, and so does fsck',
  slow,
  async () => {
    await stopServer();
    await forge('Two.', 'Too.');
    const said = await cli('replay', session);
    expect(said.code).toBe(1);
    expect(said.stdout).toContain(`model request 2 of 2 differs: ${session} seq`);
    const { code, stdout } = await cli('replay', session, '--json');
    const difference = JSON.parse(stdout).first_difference;
    expect([code, difference]).toMatchObject([1, { request: 2, seq: expect.any(Number) }]);
    expect(difference.recorded_sha256).not.toBe(difference.derived_sha256);
    expect((await cli('fsck')).stdout).toContain('its public payload is not the one that was committed to');
  },
);

it('fsck and replay refuse in one line what is not there, and make nothing', slow, async () => {
  await stopServer();
  const nowhere = path.join(directory, 'nowhere');
  const missing = await cli('fsck', '--data-dir', nowhere);
  expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('there is no store')]);
  expect((await cli('replay', `sesn_${'0'.repeat(26)}`)).stderr).toContain('there is no session');
  expect((await cli('replay', 'zzzz')).stderr).toContain('no session ends in zzzz');
  expect((await cli('fsck', '--url', 'http://127.0.0.1:1')).stderr).toContain('no server answers');
  await expect(rm(nowhere)).rejects.toThrow('ENOENT');
});
