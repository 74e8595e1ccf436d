import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LinkLost, maxLinkLineBytes, RpcPeer } from './rpc.ts';
import {
  BadSecret,
  gatewayNameOf,
  hostNameOf,
  joinProof,
  keyOf,
  keyOfPeer,
  mintGatewayToken,
  mintHostToken,
  parseToken,
  readClusterSecret,
  type Token,
  whoProved,
} from './secret.ts';
import { dialLink, type LinkServer, listenForLinks, parseAddress } from './tls.ts';

const secret = Buffer.from('0123456789abcdef0123456789abcdef');
const tokenOf = (name: string, from = secret): Token => parseToken(mintHostToken(from, name)) as Token;

describe('a link', () => {
  let server: LinkServer;
  const links: { identity: string; socket: Socket }[] = [];
  const address = () => ({ host: '127.0.0.1', port: server.port });
  beforeAll(async () => {
    server = await listenForLinks({
      secret,
      host: '127.0.0.1',
      port: 0,
      handshakeMs: 300,
      onLink: (identity, socket) => {
        links.push({ identity, socket });
        const peer = new RpcPeer(socket, (method, params) =>
          method === 'echo' ? Promise.resolve(params) : undefined,
        );
        peer.tell('welcome', { identity });
      },
    });
  });
  afterAll(() => server.close());

  it('opens with a token, tells the listener who came, and encrypts with an ephemeral key', async () => {
    const socket = await dialLink(address(), tokenOf('one'));
    const news = Promise.withResolvers<unknown>();
    const peer = new RpcPeer(
      socket,
      () => undefined,
      (_, params) => news.resolve(params),
    );
    expect(await news.promise).toEqual({ identity: 'host-one' });
    expect(await peer.ask('echo', { text: 'é\n' })).toEqual({ text: 'é\n' });
    await expect(peer.ask('nothing', {})).rejects.toThrow('no method nothing');
    expect((socket as Socket & { getCipher(): { name: string } }).getCipher().name).toMatch(/^ECDHE-PSK-/);
    peer.close();
  });

  it('shows nothing of what is said to somebody who listens on the wire', async () => {
    let seen = Buffer.alloc(0);
    const tap = createServer((from) => {
      const to = connect(server.port, '127.0.0.1');
      for (const side of [from, to]) side.on('data', (data: Buffer) => (seen = Buffer.concat([seen, data])));
      for (const side of [from, to]) side.on('error', () => {});
      from.pipe(to).pipe(from);
    });
    await new Promise<void>((resolve) => tap.listen(0, '127.0.0.1', resolve));
    const { port } = tap.address() as { port: number };
    const peer = new RpcPeer(await dialLink({ host: '127.0.0.1', port }, tokenOf('one')), () => undefined);
    await peer.ask('echo', { text: 'a-word-nobody-may-see' });
    peer.close();
    tap.close();
    expect(seen.length).toBeGreaterThan(300);
    expect(seen.includes('a-word-nobody-may-see')).toBe(false);
    expect(seen.includes(tokenOf('one').key.toString('base64url'))).toBe(false);
  });

  it.each([
    ['a key of another cluster', tokenOf('one', Buffer.from('x'.repeat(40)))],
    ['the key of another host', { ...tokenOf('one'), identity: 'host-two' }],
    ['the key of a host under the name of an api', { ...tokenOf('one'), identity: 'api' }],
    ['an identity of no form', { identity: '../../etc', key: keyOf(secret, '../../etc') }],
    ['no identity', { identity: '', key: keyOf(secret, '') }],
    ['an empty key', { identity: 'host-one', key: Buffer.alloc(0) }],
  ])('is refused to %s', async (_, token) => {
    const before = links.length;
    await expect(dialLink(address(), token)).rejects.toThrow();
    expect(links.length).toBe(before);
  });

  it('is refused by the one who dials to a server that does not hold the secret', async () => {
    const impostor = await listenForLinks({
      secret: Buffer.from('another secret of forty characters, or so'),
      host: '127.0.0.1',
      port: 0,
      onLink: () => {},
    });
    const to = { host: '127.0.0.1', port: impostor.port };
    await expect(dialLink(to, tokenOf('one'))).rejects.toThrow();
    await impostor.close();
  });

  it.each([
    ['says nothing', ''],
    ['speaks HTTP', 'GET / HTTP/1.1\r\n\r\n'],
    ['speaks our lines without TLS', '{"jsonrpc":"2.0","id":1,"method":"echo","params":{}}\n'],
    ['sends noise', '\u0016\u0003\u0001\u00ff\u00ff'],
  ])('is closed on a stranger who %s', async (_, words) => {
    const before = links.length;
    const began = Date.now();
    expect(await untilClosed(words === '' ? [] : [words])).not.toContain('jsonrpc');
    expect(Date.now() - began).toBeLessThan(2_000);
    expect(links.length).toBe(before);
  });

  it('is closed on a handshake that comes byte by byte', async () => {
    const hello = Array.from({ length: 200 }, (_, i) => (i === 0 ? '\u0016' : '\u0003'));
    const began = Date.now();
    await untilClosed(hello, 20);
    expect(Date.now() - began).toBeLessThan(2_000);
  });

  it('takes no TLS without the key, whatever suite is asked for', async () => {
    const ended = await new Promise<string>((resolve) => {
      const socket = tlsConnect({ ...address(), rejectUnauthorized: false });
      socket.once('error', (error) => resolve(error.message));
      socket.once('secureConnect', () => resolve('open'));
    });
    expect(ended).not.toBe('open');
  });

  it('still opens while strangers hold half-made handshakes', async () => {
    const strangers = Array.from({ length: 100 }, () =>
      connect(server.port, '127.0.0.1').on('error', () => {}),
    );
    const peer = new RpcPeer(await dialLink(address(), tokenOf('one')), () => undefined);
    expect(await peer.ask('echo', { n: 1 })).toEqual({ n: 1 });
    peer.close();
    for (const stranger of strangers) stranger.destroy();
  });

  it('ends on a line that is too long or no JSON, and tells whoever waits', async () => {
    for (const line of ['no json\n', Buffer.alloc(maxLinkLineBytes + (1 << 20), 'x')]) {
      const socket = await dialLink(address(), tokenOf('one'));
      const peer = new RpcPeer(socket, () => undefined);
      await peer.ask('echo', {});
      socket.write(line);
      await expect(peer.ask('echo', {})).rejects.toThrow(LinkLost);
    }
  });

  function untilClosed(words: string[], everyMs = 0): Promise<string> {
    return new Promise((resolve) => {
      let heard = '';
      const socket = connect(server.port, '127.0.0.1');
      const timer = setInterval(() => {
        const word = words.shift();
        if (word !== undefined && !socket.destroyed) socket.write(word, 'latin1');
      }, everyMs);
      socket.on('data', (data) => (heard += data.toString('latin1')));
      socket.on('error', () => {});
      socket.on('close', () => {
        clearInterval(timer);
        resolve(heard);
      });
    });
  }
});

describe('a token', () => {
  it('holds the name of its host and the key of no other', () => {
    const token = tokenOf('rack-7');
    expect(hostNameOf(token.identity)).toBe('rack-7');
    expect(token.key.equals(keyOf(secret, 'host-rack-7'))).toBe(true);
    expect(token.key.equals(keyOf(secret, 'host-rack-8'))).toBe(false);
    expect(hostNameOf('api')).toBeNull();
  });

  it.each(['UPPER', '', 'a b', '../x', 'x'.repeat(60)])('is not minted for the name %j', (name) => {
    expect(() => mintHostToken(secret, name)).toThrow(BadSecret);
  });

  it('of a host opens no gateway’s link, and no other host’s, whatever they are called (S1)', () => {
    const name = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,40}$/);
    const tokens = fc.record({ kind: fc.constantFrom('host', 'gateway'), name });
    const mintOf = ({ kind, name: of }: { kind: string; name: string }): Token =>
      parseToken((kind === 'host' ? mintHostToken : mintGatewayToken)(secret, of)) as Token;
    const isTheSame = fc.property(tokens, tokens, (one, other) => {
      const [mine, theirs] = [mintOf(one), mintOf(other)];
      const same = one.kind === other.kind && one.name === other.name;
      expect(keyOfPeer(secret, theirs.identity)?.equals(mine.key)).toBe(same);
      expect(hostNameOf(mine.identity)).toBe(one.kind === 'host' ? one.name : null);
      expect(gatewayNameOf(mine.identity)).toBe(one.kind === 'gateway' ? one.name : null);
    });
    fc.assert(isTheSame, {
      examples: [
        [
          { kind: 'host', name: 'gateway-a' },
          { kind: 'gateway', name: 'a' },
        ],
      ],
    });
  });

  it('of a host that says it is the gateway beside it is cut off before a word is read', async () => {
    const links: string[] = [];
    const onLink = (identity: string): void => void links.push(identity);
    const server = await listenForLinks({ secret, host: '127.0.0.1', port: 0, onLink });
    const to = { host: '127.0.0.1', port: server.port };
    await expect(dialLink(to, { ...tokenOf('one'), identity: 'gateway-one' })).rejects.toThrow();
    const own = parseToken(mintGatewayToken(secret, 'one')) as Token;
    (await dialLink(to, own)).destroy();
    expect(links).toEqual(['gateway-one']);
    await server.close();
  });

  it('proves who holds it without showing the key, for a while', () => {
    const now = 1_900_000_000_000;
    const proof = joinProof(tokenOf('one'), now);
    expect(proof).not.toContain(tokenOf('one').key.toString('base64url'));
    expect(whoProved(secret, proof, now + 60_000)).toBe('host-one');
    expect(whoProved(secret, proof, now + 3_600_000)).toBeNull();
    expect(whoProved(secret, proof.replace('host-one', 'host-two'), now)).toBeNull();
    expect(whoProved(secret, proof.replace(String(now), String(now + 1)), now)).toBeNull();
    expect(whoProved(secret, joinProof(tokenOf('one', Buffer.alloc(32)), now), now)).toBeNull();
    expect(whoProved(secret, 'Bearer sk-scr-x', now)).toBeNull();
  });
});

it('a secret that is short or missing is refused with what to do', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'scriptorium-secret-'));
  const file = path.join(folder, 'secret');
  expect(() => readClusterSecret(file)).toThrow(/cannot be read/);
  writeFileSync(file, 'short\n');
  expect(() => readClusterSecret(file)).toThrow(/openssl rand/);
  writeFileSync(file, `${'a'.repeat(64)}\n`);
  expect(readClusterSecret(file)).toHaveLength(64);
  rmSync(folder, { recursive: true });
});

it('addresses are host:port or [v6]:port and nothing else', () => {
  expect(parseAddress('127.0.0.1:80')).toEqual({ host: '127.0.0.1', port: 80 });
  expect(parseAddress('[::1]:7718')).toEqual({ host: '::1', port: 7718 });
  for (const text of ['', ':80', 'host', 'host:', 'host:99999', 'http://host:80', '::1:80', 'a b:1'])
    expect(parseAddress(text)).toBeNull();
});
