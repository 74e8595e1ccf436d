import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { RunningServer } from '../../src/main.ts';
import { startServer } from '../../src/main.ts';

let directory: string;
let server: RunningServer;
let isClosed = false;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-shutdown-'));
  server = await startServer({ dataDir: directory, port: 0, model: { apiKey: null } });
  isClosed = false;
}, 60_000);

afterEach(async () => {
  if (!isClosed) await server.close();
  await rm(directory, { recursive: true, force: true });
}, 60_000);

async function ask(method: string, where: string, body?: object): Promise<Response> {
  const headers = { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' };
  const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  return fetch(server.url + where, init);
}

async function made(where: string, body: object): Promise<string> {
  return String(((await (await ask('POST', where, body)).json()) as { id: unknown }).id);
}

async function openStream(): Promise<{ session: string; response: Response }> {
  const agent = await made('/v1/agents', { name: 'a', model: 'm' });
  const environment_id = await made('/v1/environments', { name: `e${Math.random()}` });
  const session = await made('/v1/sessions', { agent, environment_id });
  return { session, response: await ask('GET', `/v1/sessions/${session}/events/stream`) };
}

it('a server that stops ends its streams in order: no reader takes the end for a broken connection', async () => {
  const { session, response } = await openStream();
  await ask('POST', `/v1/sessions/${session}/events`, { events: [{ type: 'user.interrupt' }] });
  // Rejects where the connection is cut instead of ended.
  const text = response.text();
  await server.close();
  isClosed = true;
  expect(await text).toContain('event: user.interrupt');
});

it('a server that stops is not held up by a stream that nobody reads, nor by an idle connection', async () => {
  const { response } = await openStream();
  const startMs = performance.now();
  await server.close();
  isClosed = true;
  expect(performance.now() - startMs).toBeLessThan(5_000);
  await response.body?.cancel().catch(() => undefined);
});
