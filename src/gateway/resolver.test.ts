import { createSocket, type Socket } from 'node:dgram';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { answerDns, readQuery } from './dns.ts';
import { openResolver } from './resolver.ts';

let server: Socket;
let folder: string;
let resolve: (name: string) => Promise<string[]>;

beforeAll(async () => {
  server = createSocket('udp4');
  // Has nothing to say about names below slow.example, ever.
  server.on('message', (packet, from) => {
    const name = readQuery(withoutExtras(packet))?.name ?? '';
    if (name.endsWith('slow.example')) return;
    const answer = answerDns(withoutExtras(packet), (asked) =>
      asked === 'quick.example' ? '93.184.216.34' : null,
    );
    if (answer) server.send(answer, from.port, from.address);
  });
  await new Promise<void>((done) => server.bind(0, '127.0.0.1', done));
  folder = await mkdtemp(path.join(tmpdir(), 'scriptorium-hosts-'));
  const hostsFile = path.join(folder, 'hosts');
  await writeFile(hostsFile, '10.0.0.7\tWritten.example alias.example # other.example\nnonsense x.example\n');
  resolve = openResolver({ servers: [`127.0.0.1:${server.address().port}`], hostsFile, timeoutMs: 5_000 });
});
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true, force: true });
});

/** Our own reader wants one plain question. */
function withoutExtras(packet: Buffer): Buffer {
  const plain = Buffer.from(packet);
  plain.fill(0, 6, 12);
  return plain;
}

it('names that nobody answers for do not keep others waiting', async () => {
  let ended = 0;
  for (let at = 0; at < 64; at += 1)
    void resolve(`n${at}.slow.example`).then(() => {
      ended += 1;
    });
  expect(await resolve('quick.example')).toEqual(['93.184.216.34']);
  expect(ended).toBe(0);
});

it('a name of the hosts file is what it says, and one that is nowhere has no address', async () => {
  expect(await resolve('written.example')).toEqual(['10.0.0.7']);
  expect(await resolve('alias.example')).toEqual(['10.0.0.7']);
  expect(await resolve('other.example')).toEqual([]);
  expect(await resolve('x.example')).toEqual([]);
});
