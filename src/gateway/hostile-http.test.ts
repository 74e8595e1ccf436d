// Requests with another request in their body, damaged at random: whatever the gateway makes of them, the upstream must
// never be asked for what a rule denies, nor as another host.
import { connect } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { echoingUpstream, type Seen } from '../../test/peers/echoing-upstream.ts';
import { policy, rule, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const host = 'plain.example';
const seen: Seen[] = [];
let scout: World;
let world: World;
let port: number;

beforeAll(async () => {
  scout = await World.open();
  const upstream = await scout.listen(echoingUpstream(seen));
  world = await World.open({ front: (dial) => openFront(dial) }, [`${host}=127.0.0.1:${upstream}`], scout);
  await world.allow(
    policy([
      rule({ id: 'all', hosts: [host] }),
      rule({ id: 'no', effect: 'deny', hosts: [host], paths: ['/admin/**', '/admin'] }),
    ]),
  );
  port = await world.doorTo(host, 80);
});
afterAll(async () => {
  await world.close();
  await scout.close();
});

/** Sends it all, and waits until the gateway has said its last word or nothing for a moment. */
function send(text: string): Promise<void> {
  return new Promise((done) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(60, () => socket.destroy());
    socket.on('error', () => undefined).on('close', () => done());
    socket.resume().write(text, 'latin1');
  });
}

const inner = `GET /admin/keys HTTP/1.1\r\nHost: ${host}\r\nX-Inner: 1\r\n\r\n`;
const framings = fc.constantFrom(
  `Content-Length: ${inner.length}\r\n\r\n${inner}`,
  `Transfer-Encoding: chunked\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`,
  `Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n${inner}`,
  `Content-Length: 0\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
  `Transfer-Encoding:\u000bchunked\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
  `X: y\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
  `Expect: 100-continue\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
  `Connection: Upgrade, content-length\r\nUpgrade: websocket\r\nContent-Length: ${inner.length}\r\n\r\n${inner}`,
);
const damage = fc.array(
  fc.record({
    at: fc.nat(140),
    put: fc.constantFrom('', '\r', '\n', '\r\n', ' ', '\t', '0', ';', ':', ',', '\0', '%', 'x'),
  }),
  { maxLength: 3 },
);

it('a damaged request never becomes one that is denied, or one for another host', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('POST', 'GET', 'HEAD'),
      framings,
      damage,
      async (method, framing, changes) => {
        let text = `${method} /ok HTTP/1.1\r\nHost: ${host}\r\n${framing}`;
        for (const { at, put } of changes) text = text.slice(0, at) + put + text.slice(at + 1);
        await send(text);
        for (const { url, headers } of seen.splice(0)) {
          expect(url).not.toContain('admin');
          expect(headers.filter((_, at) => at % 2 === 0).filter((name) => /^host$/i.test(name))).toHaveLength(
            1,
          );
          expect(headers).toContain(host);
        }
      },
    ),
    { numRuns: 250 },
  );
  await expect
    .poll(() => send(`GET /alive HTTP/1.1\r\nHost: ${host}\r\n\r\n`).then(() => seen.length))
    .toBeGreaterThan(0);
});
