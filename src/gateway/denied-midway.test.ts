// What was let through and goes on for long ends when a new policy denies it, also where the gateway reads along (S2, S4).
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { policy, rule, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const host = 'plain.example';
let scout: World;
let world: World;
let door: number;
/** What arrived at the upstream, of upgraded connections and of bodies. */
let arrived = '';

beforeAll(async () => {
  scout = await World.open();
  const http = createServer((request, response) => {
    request.on('data', (chunk: Buffer) => {
      arrived += chunk.toString();
      response.write('more');
    });
    request.on('error', () => undefined);
  });
  http.on('upgrade', (_: IncomingMessage, socket: Duplex) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket
      .on('error', () => undefined)
      .on('data', (chunk: Buffer) => {
        arrived += chunk.toString();
      });
  });
  const port = await scout.listen(http);
  world = await World.open({ front: (dial) => openFront(dial) }, [`${host}=127.0.0.1:${port}`], scout);
});
afterAll(async () => {
  await world.close();
  await scout.close();
});
beforeEach(async () => {
  arrived = '';
  await world.allow(policy([rule({ id: 'all', hosts: [host] })]));
  door = await world.doorTo(host, 80);
});

async function open(request: string): Promise<Socket> {
  const socket = connect(door, '127.0.0.1').on('error', () => undefined);
  socket.write(request);
  await once(socket, 'data');
  socket.resume();
  return socket;
}

const upgrade = `GET /socket HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
const upload = `POST /up HTTP/1.1\r\nHost: ${host}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n`;
const denials = {
  'the host': rule({ id: 'no', effect: 'deny', hosts: [host] }),
  'its path': rule({ id: 'no', effect: 'deny', hosts: [host], paths: ['/socket', '/up'] }),
};

for (const [what, denial] of Object.entries(denials))
  for (const [kind, request, chunk] of [
    ['a WebSocket', upgrade, 'late'],
    ['an upload', upload, '4\r\nlate\r\n'],
  ] as const)
    it(`${kind} ends when ${what} is denied`, async () => {
      const socket = await open(request);
      const closed = new Promise((done) => socket.once('close', done));
      await world.allow(policy([rule({ id: 'all', hosts: [host] }), denial]));
      const timer = setInterval(() => socket.write(chunk), 20);
      await Promise.race([closed, new Promise((done) => setTimeout(done, 1_000))]);
      clearInterval(timer);
      expect(arrived).not.toContain('late');
      expect(socket.closed).toBe(true);
    });

it('what a new policy still allows goes on', async () => {
  const socket = await open(upgrade);
  await world.allow(policy([rule({ id: 'other', hosts: [host], paths: ['/socket'] })]));
  socket.write('still here');
  await expect.poll(() => arrived).toContain('still here');
  socket.destroy();
});
