// Answers that hide a secret from the one who looks for it: what cannot be read is not passed on (S1, S4).
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { policy, rule, tlsServer, tlsTo, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const host = 'api.example';
const secret = 'sk-live-Real.Secret_0123456789';
const placeholder = 'sk-live-Plac.Holder_abcdefghij';
let scout: World;
let world: World;
let door: number;
let ca: string;
/** What the upstream says to every request, whole. */
let said: Buffer = Buffer.alloc(0);

beforeAll(async () => {
  scout = await World.open();
  const port = await scout.listen(
    await tlsServer(scout.trusted, host, (socket) => socket.once('data', () => socket.end(said))),
  );
  world = await World.open({ front: (dial) => openFront(dial) }, [`${host}=127.0.0.1:${port}`], scout);
  const credential = { id: 'cred_1', placeholder, secret, hosts: [host] };
  ca = await world.allow(policy([rule({ hosts: [host] })]), [credential]);
  door = await world.doorTo(host, 443);
});
afterAll(async () => {
  await world.close();
  await scout.close();
});

/** Every byte that comes back. */
async function bytesOf(answer: Buffer): Promise<Buffer> {
  said = answer;
  const socket = await tlsTo(door, { servername: host, ca });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise((done) => socket.once('close', done));
  socket.write(
    `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\nAuthorization: ${placeholder}\r\n\r\n`,
  );
  await closed;
  return Buffer.concat(chunks);
}

it('a body that is compressed on the way, and not in itself, does not carry a secret past', async () => {
  const body = gzipSync(`you said ${secret}`);
  const chunked = (head: string) =>
    Buffer.concat([
      Buffer.from(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n${body.length.toString(16)}\r\n`),
      body,
      Buffer.from('\r\n0\r\n\r\n'),
    ]);
  expect(
    (await bytesOf(chunked('Content-Encoding: gzip\r\nTransfer-Encoding: chunked'))).toString(),
  ).toContain(placeholder);
  for (const how of ['gzip, chunked', 'gzip,chunked', 'chunked\r\nTransfer-Encoding: gzip']) {
    const back = await bytesOf(chunked(`Transfer-Encoding: ${how}`));
    expect(back.includes(body.subarray(10, 30)), how).toBe(false);
  }
});
