// A request whose length does not hold must not let what follows on the upstream's connection be read as another request:
// rules would then be about one request, and the upstream's answer about the next.
import { connect, createServer, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { policy, rule, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const host = 'plain.example';
/** What the upstream was asked for, as it understood it. */
const seen: string[] = [];
const held: Socket[] = [];
let scout: World;
let world: World;
let door: number;

/** Answers each head at once, and goes by the announced lengths, as servers of files do. */
function early(socket: Duplex): void {
  let bytes = '';
  let skip = 0;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.toString('latin1');
    for (;;) {
      const over = Math.min(skip, bytes.length);
      bytes = bytes.slice(over);
      skip -= over;
      const end = bytes.indexOf('\r\n\r\n');
      if (skip > 0 || end === -1) return;
      const head = bytes.slice(0, end);
      bytes = bytes.slice(end + 4);
      seen.push(head.split(' HTTP', 1)[0] ?? '');
      skip = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly');
    }
  });
}

beforeAll(async () => {
  scout = await World.open();
  const port = await scout.listen(createServer(early));
  world = await World.open({ front: (dial) => openFront(dial) }, [`${host}=127.0.0.1:${port}`], scout);
});
afterAll(async () => {
  for (const socket of held) socket.destroy();
  await world.close();
  await scout.close();
});
beforeEach(async () => {
  seen.length = 0;
  const hosts = [host];
  await world.allow(
    policy([rule({ id: 'all', hosts }), rule({ id: 'no', effect: 'deny', hosts, paths: ['/admin/**'] })]),
  );
  door = await world.doorTo(host, 80);
});

const inner = `GET /admin/keys HTTP/1.1\r\nHost: ${host}\r\n\r\n`;

/** Sends it on a connection of its own, which stays open as long as the sandbox likes, and waits for an answer. */
function send(text: string): Promise<void> {
  return new Promise((done) => {
    const socket = connect({ port: door, host: '127.0.0.1', allowHalfOpen: true });
    held.push(socket);
    socket.on('error', () => done()).once('data', () => done());
    socket.setTimeout(500, () => done());
    socket.write(text, 'latin1');
  });
}

it('a body beside an upgrade is refused: unsent, it would swallow the head of the next request', async () => {
  const next = `POST /ok HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`;
  for (const length of [next.length - inner.length, next.length - inner.length + 24]) {
    await send(
      `GET /ok HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${length}\r\n\r\n`,
    );
    await send(next);
  }
  expect(seen.length).toBeGreaterThan(0);
  expect(seen.join()).not.toContain('admin');
});
