// A real Restate, a real Postgres, workers that are killed; only the model is played. The built-in waker finds nothing.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { startRehearsal } from '../../rehearsal/peer.ts';
import type { Reply, Turn } from '../../rehearsal/script.ts';
import { openStore } from '../../src/store/open.ts';
import { EngineRoom, message, tenant } from '../../test/peers/engine-room.ts';
import { PostgresServer } from '../../test/peers/postgres-server.ts';
import { wake } from './waker.ts';

// The program itself: a kill -9 of its npm wrapper would leave it alive.
const restateServer = path.join(
  import.meta.dirname,
  `node_modules/@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`,
);
const folder = mkdtempSync(path.join(tmpdir(), 'waker-restate-'));
const room = new EngineRoom(); // its store and its words, not its engine
const children: Record<'restate' | 'worker', ChildProcess | null> = { restate: null, worker: null };
let postgres: PostgresServer;
let model: Awaited<ReturnType<typeof startRehearsal>>;
let ports: Record<'ingress' | 'admin' | 'node' | 'worker', number>;
const urlOf = (name: keyof typeof ports) => `http://127.0.0.1:${ports[name]}`;

function script({ userText, attempt, requestsBefore }: Turn): Reply {
  if (userText === 'fail once' && requestsBefore + attempt === 0) return { status: 503 };
  if (userText.startsWith('slow')) return { text: 'word '.repeat(40), deltaChars: 5, eventDelayMs: 40 };
  return { text: `You said ${userText}.` };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function until(what: string, holds: () => Promise<boolean>, forMs = 60_000): Promise<void> {
  for (const endMs = Date.now() + forMs; !(await holds().catch(() => false)); ) {
    if (Date.now() > endMs) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function launch(name: keyof typeof children, program: string, args: string[], env: object): void {
  const stdio = process.env.DEBUG ? 'inherit' : 'ignore';
  children[name] = spawn(program, args, { env: { ...process.env, ...env } as NodeJS.ProcessEnv, stdio });
}

async function kill(name: keyof typeof children): Promise<void> {
  const child = children[name];
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

async function startRestate(): Promise<void> {
  launch('restate', restateServer, ['--no-logo', '--listen-mode', 'tcp', '--bind-ip', '127.0.0.1'], {
    RESTATE_BASE_DIR: path.join(folder, 'restate'),
    RESTATE_NODE_NAME: 'one',
    RESTATE_BIND_PORT: String(ports.node),
    RESTATE_INGRESS__BIND_PORT: String(ports.ingress),
    RESTATE_ADMIN__BIND_PORT: String(ports.admin),
    RESTATE_DISABLE_TELEMETRY: 'true',
  });
  await until('Restate is healthy', async () => (await fetch(`${urlOf('admin')}/health`)).ok);
  await until('its ingress too', async () => (await fetch(`${urlOf('ingress')}/restate/health`)).ok);
}

function startWorker(): void {
  launch('worker', process.execPath, [path.join(import.meta.dirname, 'worker.ts')], {
    DATABASE_URL: postgres.url('postgres'),
    MASTER_KEY_FILE: path.join(folder, 'master.key'),
    BLOBS_DIR: path.join(folder, 'blobs'),
    ORGANIZATION: tenant.organization,
    PROJECT: tenant.project,
    MODEL_URL: model.url,
    MODEL_KEY: 'played',
    INGRESS_URL: urlOf('ingress'),
    PORT: String(ports.worker),
  });
}

/** Restate asks the worker what it offers, which tells that it listens. */
async function register(): Promise<void> {
  const body = JSON.stringify({ uri: urlOf('worker'), force: true });
  const headers = { 'content-type': 'application/json' };
  const ask = async () =>
    (await fetch(`${urlOf('admin')}/deployments`, { method: 'POST', headers, body })).ok;
  await until('the worker is known', ask);
}

before(async () => {
  postgres = await PostgresServer.start();
  model = await startRehearsal({ script });
  const [ingress = 0, admin = 0, node = 0, worker = 0] = await Promise.all([1, 2, 3, 4].map(freePort));
  ports = { ingress, admin, node, worker };
  const masterKeyFile = path.join(folder, 'master.key');
  writeFileSync(masterKeyFile, Buffer.alloc(32, 7), { mode: 0o600 });
  const summarizeModule = new URL('../../src/session/summary.ts', import.meta.url);
  room.store = await openStore({ databaseUrl: postgres.url('postgres'), masterKeyFile, summarizeModule });
  await startRestate();
  startWorker();
  await register();
});

after(async () => {
  await Promise.all([kill('worker'), kill('restate')]);
  await room.store?.close();
  await Promise.all([model?.stop(), postgres?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

const countOf = async (session: string, type: string) =>
  (await room.log(session)).filter((event) => event.type === type).length;
const idles = (session: string, count: number) =>
  until(`idle ${count} times`, async () => (await countOf(session, 'session.status_idle')) === count);

test('a session that is woken is driven until it rests, once, however often it is woken', async () => {
  const session = await room.createSession({}, message('hello'));
  await Promise.all([1, 2, 3, 4, 5].map(() => wake(urlOf('ingress'), session)));
  await idles(session, 1);
  await wake(urlOf('ingress'), session);
  assert.equal(await countOf(session, 'agent.message'), 1);
  await room.send(session, message('again'));
  await wake(urlOf('ingress'), session);
  await idles(session, 2);
  assert.equal(await countOf(session, 'agent.message'), 2);
});

test('a session whose worker is killed in the middle of a turn goes on at the next one, woken by nobody else', async () => {
  const session = await room.createSession({}, message('slow'));
  await wake(urlOf('ingress'), session);
  await until('the model is asked', async () => (await countOf(session, 'model.intent')) === 1);
  await kill('worker');
  assert.equal(await countOf(session, 'agent.message'), 0);
  startWorker();
  await idles(session, 1);
  assert.equal(await countOf(session, 'agent.message'), 1);
});

test('a wake-up that Restate took outlives its own kill -9', async () => {
  await kill('worker');
  const session = await room.createSession({}, message('hello'));
  await wake(urlOf('ingress'), session);
  await kill('restate');
  await startRestate();
  startWorker();
  await idles(session, 1);
  assert.equal(await countOf(session, 'agent.message'), 1);
});

test('a turn that waits for a time, because the model failed, is taken up at that time', async () => {
  const session = await room.createSession({}, message('fail once'));
  await wake(urlOf('ingress'), session);
  await idles(session, 1);
  assert.deepEqual([await countOf(session, 'timer.fired'), await countOf(session, 'agent.message')], [1, 1]);
});
