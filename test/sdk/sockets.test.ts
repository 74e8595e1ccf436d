/**
 * The API over real sockets, where clients behave badly: vanish in the middle of a stream or an upload, stop reading,
 * send more than they may. What must hold is the server: nothing leaks, nothing is left behind, the next one is served.
 */
import { readdir } from 'node:fs/promises';
import type { Server } from 'node:http';
import { createServer, request } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { getRequestListener } from '@hono/node-server';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ApiDeps } from '../../src/api/app.ts';
import { createApi } from '../../src/api/app.ts';
import type { PreviewBus } from '../../src/protocol/previews.ts';
import type { TestApi } from './test-api.ts';
import { makeSession, openTestApi, record } from './test-api.ts';

let api: TestApi;
let server: Server;
let port: number;
let bugs: unknown[];
let previewListeners: number;

beforeEach(async () => {
  api = await openTestApi();
  bugs = [];
  previewListeners = 0;
  const previews: PreviewBus = {
    subscribe() {
      previewListeners += 1;
      return () => {
        previewListeners -= 1;
      };
    },
  };
  const deps: ApiDeps = {
    ...api.deps,
    previews,
    onBug: (error) => bugs.push(error),
    limits: { stalledReaderMs: 100, fileBytes: 64 * 1024 * 1024 },
  };
  server = createServer(getRequestListener(createApi(deps).fetch));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await api.close();
  expect(bugs).toEqual([]);
});

/** A raw connection that has sent a stream request; resolves once the response's first bytes are here. */
async function openStream(session: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  socket.write(
    `GET /v1/sessions/${session}/events/stream?event_deltas[]=agent.message HTTP/1.1\r\n` +
      `host: x\r\nauthorization: Bearer ${api.key}\r\n\r\n`,
  );
  const first = await new Promise<Buffer>((resolve) => socket.once('data', resolve));
  expect(first.toString()).toContain('200 OK');
  return socket;
}

async function blobs(): Promise<string[]> {
  const entries = await readdir(api.directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.parentPath.includes('blobs'))
    .map((entry) => entry.name);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes that somebody really holds, not those that nobody has swept yet. */
function heldBytes(): number {
  collectGarbage();
  return process.memoryUsage().arrayBuffers;
}

const uploadHead =
  '--B\r\ncontent-disposition: form-data; name="file"; filename="big.bin"\r\ncontent-type: application/octet-stream\r\n\r\n';

describe('streams over sockets', () => {
  it('send their headers at once, before there is any event', async () => {
    const { id } = await makeSession(api);
    const socket = await openStream(id);
    socket.destroy();
  });

  it('of clients that vanished are let go of, and the others go on', async () => {
    const { id } = await makeSession(api);
    const sockets = await Promise.all(Array.from({ length: 10 }, () => openStream(id)));
    expect(previewListeners).toBe(10);
    const last = sockets.pop() as Socket;
    for (const socket of sockets) socket.destroy();
    await expect.poll(() => previewListeners).toBe(1);
    const next = new Promise<Buffer>((resolve) => last.once('data', resolve));
    await record(api, id, { type: 'session.status_running' });
    expect((await next).toString()).toContain('session.status_running');
    last.destroy();
    await expect.poll(() => previewListeners).toBe(0);
  });

  it('to a client that stopped reading are dropped, however much there is to say', async () => {
    const { id } = await makeSession(api);
    const socket = await openStream(id);
    socket.pause();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const text = 'x'.repeat(60_000);
    for (let i = 0; i < 400 && previewListeners > 0; i++) {
      await record(api, id, { type: 'agent.message', public: { content: [{ type: 'text', text }] } });
    }
    await expect.poll(() => previewListeners, { timeout: 10_000 }).toBe(0);
    socket.resume();
    await closed;
  });
});

describe('uploads over sockets', () => {
  it('that break off leave nothing behind', async () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(
      `POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${api.key}\r\n` +
        `content-type: multipart/form-data; boundary=B\r\ncontent-length: 5000000\r\n\r\n${uploadHead}`,
    );
    socket.write(Buffer.alloc(300_000, 'x'));
    await expect.poll(async () => (await blobs()).length).toBe(1);
    socket.destroy();
    await expect.poll(blobs).toEqual([]);
  });

  it('larger than the limit are refused before they are sent whole', async () => {
    const size = 65 * 1024 * 1024;
    const { status, sent } = await upload(size);
    expect(status).toBe(413);
    expect(sent).toBeLessThanOrEqual(size);
    expect(await blobs()).toEqual([]);
  });

  it('are never in memory as a whole', async () => {
    const before = heldBytes();
    let peak = 0;
    let chunks = 0;
    const { status } = await upload(48 * 1024 * 1024, () => {
      if (chunks++ % 16 === 0) peak = Math.max(peak, heldBytes());
    });
    expect(status).toBe(200);
    expect(peak - before).toBeLessThan(16 * 1024 * 1024);
  });

  it('without a key are refused and their bodies not taken', async () => {
    const { status } = await upload(8 * 1024 * 1024, undefined, 'wrong');
    expect(status).toBe(401);
    expect(await blobs()).toEqual([]);
  });
});

/** Uploads `size` bytes chunk by chunk, as fast as the server takes them, without saying how many there will be. */
async function upload(
  size: number,
  onChunk = () => {},
  key = api.key,
): Promise<{ status: number; sent: number }> {
  const outgoing = request({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/v1/files',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'multipart/form-data; boundary=B' },
  });
  outgoing.on('error', () => {});
  const answered = new Promise<number>((resolve, reject) => {
    outgoing.once('response', (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    outgoing.once('close', () => reject(new Error('no answer')));
  });
  let status: number | null = null;
  void answered.then(
    (code) => {
      status = code;
    },
    () => {},
  );
  outgoing.write(uploadHead);
  const chunk = Buffer.alloc(256 * 1024, 'y');
  let sent = 0;
  while (sent < size && status === null && !outgoing.destroyed) {
    sent += chunk.length;
    onChunk();
    if (!outgoing.write(chunk)) {
      await Promise.race([
        new Promise((resolve) => outgoing.once('drain', resolve)),
        answered.catch(() => {}),
      ]);
    }
  }
  outgoing.end('\r\n--B--\r\n');
  const code = await answered;
  outgoing.destroy();
  return { status: code, sent };
}
