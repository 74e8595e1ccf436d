// A sandbox that asks for more than it could wait for: the memory of the gateway is that of all sessions.
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { policy, rule, tlsTo, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const hosts = ['one.example', 'two.example'];
let world: World;
let ca: string;

beforeAll(async () => {
  world = await World.open({ front: (dial) => openFront(dial), askHoldMs: 60_000 });
  // Everything is held until somebody answers, and nobody does.
  ca = await world.allow(policy([rule({ hosts }), rule({ effect: 'ask', hosts, paths: ['/**'] })]));
});
afterAll(() => world.close());

it('requests without waiting for answers end their connection, of either version of HTTP', async () => {
  const door = await world.doorTo('one.example', 80);
  const socket = connect(door, '127.0.0.1').on('error', () => undefined);
  const closed = new Promise((done) => socket.once('close', done));
  socket.write('GET / HTTP/1.1\r\nHost: one.example\r\n\r\n'.repeat(600));
  await closed;
  expect(await world.decisions(513)).toContainEqual(
    expect.objectContaining({ decision: 'denied', reason: 'too many requests at once' }),
  );

  const secure = await world.doorTo('two.example', 443);
  let ended = 0;
  for (let round = 0; round < 7; round += 1) {
    const tls = await tlsTo(secure, { servername: 'two.example', ca, ALPNProtocols: ['h2'] });
    const client = connectHttp2('https://two.example', { createConnection: () => tls });
    client
      .on('error', () => undefined)
      .on('close', () => {
        ended += 1;
      });
    for (let at = 0; at < 100; at += 1) client.request({ ':path': '/' }).on('error', () => undefined);
  }
  await expect.poll(() => ended).toBeGreaterThan(0);
  // What was counted on connections that have ended is no longer.
  const again = connect(door, '127.0.0.1').on('error', () => undefined);
  again.write('GET /asked HTTP/1.1\r\nHost: one.example\r\n\r\n');
  await expect
    .poll(async () => (await world.decisions(0)).some(({ path }) => path === '/asked'), { timeout: 5_000 })
    .toBe(true);
  again.destroy();
});
