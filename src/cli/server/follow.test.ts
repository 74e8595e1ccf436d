// Against a server that dies, lies half done and comes back: every event once, in order, or an ending that says why.
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { defaultDataDir } from '../data-dir.ts';
import { ApiRefusal, Client } from './client.ts';
import { readDiscovery, retractDiscovery, writeDiscovery } from './discovery.ts';
import type { Followed } from './follow.ts';
import { follow } from './follow.ts';
import type { Frame } from './sse.ts';
import { readFrames } from './sse.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type Connection = { lastEventId: string; response: ServerResponse; key: string | undefined; method: string };

async function serve(answer: (connection: Connection, count: number) => void): Promise<string> {
  let count = 0;
  const server = createServer((request, response) => {
    const { authorization, 'last-event-id': id, 'idempotency-key': key } = request.headers;
    expect(authorization).toBe('Bearer k');
    answer(
      { lastEventId: String(id), response, key: key as string | undefined, method: request.method ?? '' },
      ++count,
    );
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const frame = (seq: number, more: object = {}): string =>
  `id: ${seq}\nevent: x\ndata: ${JSON.stringify({ id: `e${seq}`, type: 'x', processed_at: 't', ...more })}\n\n`;

function clientFor(url: string, patienceMs = 5_000, elsewhere = url): Client {
  return new Client({ url, apiKey: 'k' }, async () => ({ url: elsewhere, apiKey: 'k' }), patienceMs);
}

async function collect(client: Client, stopAt: string): Promise<string[]> {
  const stop = new AbortController();
  const told: string[] = [];
  const options = { after: 0, previews: false, signal: stop.signal };
  for await (const item of follow(client, 'sesn_1', options) as AsyncGenerator<Followed>) {
    told.push(item.kind === 'event' ? item.event.id : item.kind === 'connection' ? item.state : 'preview');
    if (told.at(-1) === stopAt) stop.abort();
  }
  return told;
}

it('goes on after the last position when the connection is cut, in the middle of a frame too', async () => {
  const asked: string[] = [];
  const url = await serve(({ lastEventId, response }, count) => {
    asked.push(lastEventId);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    if (count === 1) response.end(frame(1) + frame(2) + frame(3).slice(0, 20));
    else if (count === 2) response.write(frame(3), () => response.destroy());
    else response.write(frame(4));
  });
  expect(await collect(clientFor(url), 'e4')).toEqual([
    'e1',
    'e2',
    'lost',
    'back',
    'e3',
    'lost',
    'back',
    'e4',
  ]);
  expect(asked).toEqual(['0', '2', '3']);
});

it('gives frames of one position once, however often they come, and an input again when it is taken up', async () => {
  const queued = `event: x\ndata: {"id":"in","type":"user.message","processed_at":null}\n\n`;
  const url = await serve(({ response }, count) => {
    response.writeHead(200);
    if (count === 1) response.end(frame(1) + queued);
    else response.write(queued + queued.replace('null', '"t"') + frame(2));
  });
  expect(await collect(clientFor(url), 'e2')).toEqual(['e1', 'in', 'lost', 'back', 'in', 'e2']);
});

it('finds the server again at another address', async () => {
  const second = await serve(({ response }) => void response.writeHead(200).write(frame(1)));
  expect(await collect(clientFor('http://127.0.0.1:9', 5_000, second), 'e1')).toEqual(['lost', 'back', 'e1']);
});

it('gives up after its patience, saying that the session is safe and how to come back', async () => {
  const promise = collect(clientFor('http://127.0.0.1:9', 300), 'never');
  await expect(promise).rejects.toMatchObject({
    message: expect.stringContaining('no server answers'),
    hint: expect.stringContaining('scriptorium attach sesn_1'),
  });
});

it('does not try again where the server says no', async () => {
  const url = await serve(({ response }) =>
    response
      .writeHead(404)
      .end('{"type":"error","error":{"type":"not_found_error","message":"There is no such session."}}'),
  );
  await expect(collect(clientFor(url), 'never')).rejects.toThrow('There is no such session.');
});

it('ends with the deleted session', async () => {
  const url = await serve(({ response }) => response.end(frame(1, { type: 'session.deleted' })));
  expect(await collect(clientFor(url), 'never')).toEqual(['e1']);
});

it('asks a POST again with the same key when the server dies over it, and waits out a 503', async () => {
  const keys: (string | undefined)[] = [];
  const url = await serve(({ response, key }, count) => {
    keys.push(key);
    if (count === 1) response.destroy();
    else if (count === 2) response.writeHead(503).end('{}');
    else response.end('{"id":"made"}');
  });
  expect(await clientFor(url).post<{ id: string }>('/v1/things', { json: {} })).toEqual({ id: 'made' });
  expect(new Set(keys).size).toBe(1);
  expect(keys).toHaveLength(3);
});

it('tells errors in one line without the key, also when the body is no envelope', async () => {
  const url = await serve(({ response }) => response.writeHead(500, { 'request-id': 'req_1' }).end('<html>'));
  const error = await clientFor(url)
    .get('/v1/x')
    .catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(ApiRefusal);
  expect((error as Error).message).toBe('the server answered 500 without saying why (request req_1)');
});

async function frames(...chunks: (string | Uint8Array)[]): Promise<Frame[]> {
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks)
        controller.enqueue(typeof chunk === 'string' ? encoder.encode(chunk) : chunk);
      controller.close();
    },
  });
  const all: Frame[] = [];
  for await (const one of readFrames(body)) all.push(one);
  return all;
}

it('reads frames however they are cut, with any line ending, without comments', async () => {
  const text = ': hello\n\nid: 1\nevent: a\ndata: ü\ndata: two\n\n:\n\nevent: empty\n\ndata:x\r\n\r\n';
  const expected = [
    { event: 'a', id: '1', data: 'ü\ntwo' },
    { event: 'message', id: null, data: 'x' },
  ];
  expect(await frames(text)).toEqual(expected);
  const bytes = new TextEncoder().encode(text);
  expect(await frames(...Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(expected);
});

it('writes the discovery file for its owner only, and takes back only its own', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'discovery-'));
  try {
    expect(await readDiscovery(folder)).toBeNull();
    await writeDiscovery(folder, { url: 'http://x', pid: 7, apiKey: 'k' });
    expect(statSync(path.join(folder, 'server.json')).mode & 0o777).toBe(0o600);
    await retractDiscovery(folder, 8);
    expect(await readDiscovery(folder)).toEqual({ url: 'http://x', pid: 7, apiKey: 'k' });
    await retractDiscovery(folder, 7);
    expect(await readDiscovery(folder)).toEqual({ url: '', pid: 0, apiKey: 'k' });
    writeFileSync(path.join(folder, 'server.json'), '{"url":');
    expect(await readDiscovery(folder)).toBeNull();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('keeps data where the system keeps data', () => {
  expect(defaultDataDir({}, 0)).toBe('/var/lib/scriptorium');
  expect(defaultDataDir({ HOME: '/home/u' }, 1)).toBe('/home/u/.local/share/scriptorium');
  expect(defaultDataDir({ HOME: '/home/u', XDG_DATA_HOME: '/data' }, 1)).toBe('/data/scriptorium');
  expect(defaultDataDir({ HOME: '/home/u', XDG_DATA_HOME: 'relative' }, 1)).toBe(
    '/home/u/.local/share/scriptorium',
  );
  expect(defaultDataDir({ SCRIPTORIUM_DATA_DIR: '/elsewhere' }, 0)).toBe('/elsewhere');
});
