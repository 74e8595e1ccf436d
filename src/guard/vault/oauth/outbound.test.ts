import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ScriptedHttp } from '../../../../test/peers/scripted-http.ts';
import { startScriptedHttp } from '../../../../test/peers/scripted-http.ts';
import { outbound, outboundDefaults } from './outbound.ts';

let peer: ScriptedHttp;
beforeAll(async () => {
  peer = await startScriptedHttp((_asked, response) => void response.end('{}'));
});
afterAll(() => peer.close());

const open = outbound({ ...outboundDefaults, timeoutMs: 1_000, maxBytes: 1_000, allowPrivate: true });
const closed = outbound({ ...outboundDefaults, timeoutMs: 1_000 });
const to = (url: string) => ({ url, headers: { authorization: 'Bearer secret' }, body: '{}' });
const port = () => new URL(peer.url).port;

it.each([
  ['https://127.0.0.1', 'a private one'],
  ['https://10.1.2.3', 'a private one'],
  ['https://[::1]', 'a private one'],
  ['https://169.254.169.254', 'a private one'],
  ['https://[::ffff:127.0.0.1]', 'a private one'],
  // Judged by where the name leads to.
  ['https://localhost', 'a private one'],
  ['http://example.com', 'only https'],
  ['http://127.0.0.1', 'only https'],
])('%s is asked nothing', async (host, message) => {
  const ending = await closed(to(`${host}:${port()}/`));
  expect(ending).toMatchObject({ kind: 'unsent', message: expect.stringContaining(message) });
  expect(peer.asked).toEqual([]);
});

it('a link-local address is asked nothing, also where private ones are allowed', async () => {
  for (const host of ['169.254.169.254', '[fe80::1]'])
    expect(await open(to(`https://${host}/`))).toMatchObject({ kind: 'unsent' });
  expect(await open(to('http://10.1.2.3/'))).toMatchObject({
    kind: 'unsent',
    message: 'only https is spoken',
  });
});

it('a redirect is an answer and is not followed', async () => {
  peer.script = ({ path }, response) =>
    void (path === '/'
      ? response.writeHead(307, { location: `${peer.url}/stolen` }).end()
      : response.end('x'));
  expect(await open(to(`${peer.url}/`))).toMatchObject({ kind: 'response', status: 307 });
  expect(peer.asked.some(({ path }) => path === '/stolen')).toBe(false);
});

it('an answer without end is cut, and a stream of events is not waited for', async () => {
  peer.script = (_asked, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    const more = setInterval(() => response.write('x'.repeat(400)), 5);
    response.on('close', () => clearInterval(more));
  };
  const cut = await open(to(`${peer.url}/`));
  expect(cut).toMatchObject({ kind: 'response', isTruncated: true });
  expect(cut.kind === 'response' && cut.body.length).toBe(1_000);
  peer.script = (_asked, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': and nothing more\n\n');
  };
  expect(await open(to(`${peer.url}/`))).toMatchObject({ kind: 'response', status: 200, body: '' });
});

it('what was never sent is told from what may have arrived', async () => {
  peer.script = (_asked, response) => void response.destroy();
  expect((await open(to(`${peer.url}/`))).kind).toBe('lost');
  expect((await open(to('http://127.0.0.1:1/'))).kind).toBe('unsent');
  expect((await open(to('https://no-such-host.invalid/'))).kind).toBe('unsent');
});
