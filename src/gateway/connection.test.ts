// Real TLS and TCP peers on loopback; the destination is handed in, as capture would tell it.
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import {
  clientHello,
  encryptedHello,
  policy,
  queryFor,
  rule,
  tlsServer,
  tlsTo,
  World,
  type WorldSettings,
  withExtensions,
} from '../../test/peers/gateway-world.ts';
import { createAuthority } from './authority.ts';

const worlds: World[] = [];
afterEach(async () => {
  await Promise.all(worlds.splice(0).map((world) => world.close()));
});

const host = 'files.example';

async function place(settings: WorldSettings = {}): Promise<World> {
  // The upstream's port is known only once it listens, so a first world finds it.
  const scout = await World.open();
  worlds.push(scout);
  const port = await scout.listen(
    await tlsServer(scout.trusted, host, (socket) => socket.on('data', (data) => socket.write(data))),
  );
  const plain = await scout.listen(
    createServer({ allowHalfOpen: true }, (socket) => {
      socket.write('220 hello\r\n');
      socket.pipe(socket);
    }),
  );
  const pins = [`${host}=127.0.0.1:${port}`, `mail.example=127.0.0.1:${plain}`];
  const world = await World.open(settings, pins, scout);
  worlds.push(world);
  return world;
}

function ending(socket: Socket): Promise<string> {
  return new Promise((done) => {
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'error'));
    socket.on('close', () => done(`closed:${text}`));
  });
}

function once(socket: Socket, event = 'data'): Promise<string> {
  return new Promise((done, fail) => {
    socket.once(event, (data) => done(String(data)));
    socket.once('error', fail);
    socket.once('close', () => fail(new Error('closed')));
  });
}

describe('a connection of the sandbox', () => {
  it('is tunnelled when a rule names the host, end to end with the upstream', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })]));
    const socket = await tlsTo(await world.doorTo(host, 443), { servername: host, ca: world.trusted.pem });
    expect(socket.authorized).toBe(true);
    socket.write('ping');
    expect(await once(socket)).toBe('ping');
    socket.destroy();
    const [first] = await world.decisions();
    expect(first).toMatchObject({ decision: 'allowed', protocol: 'tls', host, port: 443, count: 1 });
    expect(first?.bytesSent).toBeGreaterThan(200);
  });

  it('is reset for a server name of another host, for none, and for what is not TLS', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })]));
    const port = await world.doorTo(host, 443);
    const { pem: ca } = world.trusted;
    await expect(tlsTo(port, { servername: 'evil.example', ca })).rejects.toThrow();
    await expect(tlsTo(port, { ca })).rejects.toThrow();
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: files.example\r\n\r\n');
    expect(await ending(socket)).toBe('ECONNRESET');
    const reasons = (await world.decisions(3)).map(({ reason }) => reason);
    expect(reasons.join()).toContain('TLS for evil.example');
    expect(reasons.join()).toContain('without a server name');
    expect(reasons.join()).toContain('not a TLS handshake');
  });

  it('is reset at an address that no name was given, the metadata service and loopback among them', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })], { otherwise: 'allow' }));
    for (const address of ['169.254.169.254', '1.1.1.1', '127.0.0.1', '198.18.200.1', '::1']) {
      const socket = connect(await world.door(address, 443), '127.0.0.1');
      expect(await ending(socket), address).toBe('ECONNRESET');
    }
    expect((await world.decisions(5)).every(({ decision }) => decision === 'denied')).toBe(true);
  });

  it('is reset at an address that is not public, though a rule names it or a name stands for it', async () => {
    const world = await place({ upstream: { resolve: () => Promise.resolve(['127.0.0.1', '10.0.0.1']) } });
    await world.allow(policy([rule({ hosts: ['169.254.169.254', 'rebound.example'], ports: [8000] })]));
    for (const address of ['169.254.169.254', world.addressOf('rebound.example') ?? '']) {
      const socket = connect(await world.door(address, 8000), '127.0.0.1');
      expect(await ending(socket)).toBe('ECONNRESET');
    }
    const reasons = (await world.decisions(2)).map(({ reason }) => reason);
    expect(reasons).toEqual([expect.stringContaining('not public'), expect.stringContaining('not public')]);
  });

  it('is reset where its hello is encrypted: the name in clear need not be the one that is meant', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })]));
    const hello = await clientHello(host);
    const plain = connect(await world.doorTo(host, 443), '127.0.0.1');
    plain.write(hello);
    expect((await once(plain)).length).toBeGreaterThan(50);
    plain.destroy();
    const encrypted = connect(await world.doorTo(host, 443), '127.0.0.1');
    encrypted.write(withExtensions(hello, encryptedHello));
    expect(await ending(encrypted)).toBe('ECONNRESET');
    expect((await world.decisions(2)).at(-1)?.reason).toContain('ECH');
  });

  it('carries bytes that are neither TLS nor HTTP where a rule names the port, whoever speaks first', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: ['mail.example'], ports: [25] })]));
    const socket = connect({
      port: await world.doorTo('mail.example', 25),
      host: '127.0.0.1',
      allowHalfOpen: true,
    });
    expect(await once(socket)).toBe('220 hello\r\n');
    const rest = ending(socket);
    socket.end('QUIT\r\n');
    expect(await rest).toContain('QUIT');
    const other = connect(await world.doorTo('mail.example', 26), '127.0.0.1');
    expect(await ending(other)).toBe('ECONNRESET');
  });

  it('carries nothing but HTTP where a rule speaks of requests', async () => {
    const world = await place();
    await world.allow(
      policy([
        rule({ hosts: ['mail.example'], ports: [25] }),
        rule({ id: 'no posts', effect: 'deny', hosts: ['mail.example'], methods: ['POST'] }),
      ]),
    );
    const socket = connect(await world.doorTo('mail.example', 25), '127.0.0.1');
    socket.write('\r\nPOST / HTTP/1.1\r\n');
    expect(await ending(socket)).toBe('ECONNRESET');
  });

  it("checks the certificate in nobody's place: a tunnel shows the sandbox the real one", async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })]));
    const other = await createAuthority('not trusted by anybody');
    const port = await world.doorTo(host, 443);
    await expect(tlsTo(port, { servername: host, ca: other.pem })).rejects.toThrow();
  });
});

describe('asking', () => {
  it('holds the connection until a policy allows it', async () => {
    const world = await place();
    await world.allow(policy([], { otherwise: 'ask' }));
    const opening = tlsTo(await world.doorTo(host, 443), { servername: host, ca: world.trusted.pem });
    expect(await world.decisions()).toMatchObject([{ decision: 'asked', host, rule: 'otherwise' }]);
    await world.allow(policy([rule({ id: `approved:${host}`, hosts: [host] })], { otherwise: 'ask' }));
    const socket = await opening;
    socket.write('ping');
    expect(await once(socket)).toBe('ping');
    expect(await world.decisions()).toMatchObject([{ decision: 'allowed', rule: `approved:${host}` }]);
  });

  it('resets the connection when nobody answers in time', async () => {
    const world = await place({ askHoldMs: 30 });
    await world.allow(policy([], { otherwise: 'ask' }));
    const opening = tlsTo(await world.doorTo(host, 443), { servername: host, ca: world.trusted.pem });
    await expect(opening).rejects.toThrow();
    const last = (await world.decisions(2)).at(-1);
    expect(last).toMatchObject({ decision: 'denied', reason: 'nobody allowed it in time' });
  });
});

describe('a session', () => {
  it('ends a tunnel whose host a new policy denies, and keeps one that it allows', async () => {
    const world = await place();
    await world.allow(policy([rule({ hosts: [host] })]));
    const port = await world.doorTo(host, 443);
    const socket = await tlsTo(port, { servername: host, ca: world.trusted.pem });
    await world.allow(policy([rule({ id: 'other', hosts: [host] })]));
    socket.write('still');
    expect(await once(socket)).toBe('still');
    const ended = ending(socket);
    await world.allow(policy([]));
    expect(await ended).toMatch(/ECONNRESET|closed:/);
  });

  it('refuses everything new while too many decisions wait unread, and goes on once they are read', async () => {
    const world = await place({ maxWaiting: 3, windowMs: 1 });
    await world.allow(policy([rule({ hosts: [host] })]));
    for (const name of ['a', 'b', 'c', 'd', 'e']) expect(world.addressOf(`${name}.evil.example`)).toBeNull();
    expect(world.addressOf(host)).toBeNull();
    expect((await world.decisions(3)).length).toBeGreaterThanOrEqual(3);
    await world.decisions(0);
    expect(world.addressOf(host)).toMatch(/^198\.18\./);
  });

  it('ends its connections when a host has had its bytes', async () => {
    const world = await place();
    const caps = { bytesPerHost: 20_000, connections: 5, connectionsPerHost: 5 };
    await world.allow(policy([rule({ hosts: [host] })], { caps }));
    const port = await world.doorTo(host, 443);
    const socket = await tlsTo(port, { servername: host, ca: world.trusted.pem });
    const ended = ending(socket);
    socket.write(Buffer.alloc(40_000));
    expect(await ended).toMatch(/ECONNRESET|closed:/);
    await expect(tlsTo(port, { servername: host, ca: world.trusted.pem })).rejects.toThrow();
  });

  it('has no more connections than its caps', async () => {
    const world = await place();
    const caps = { bytesPerHost: null, connections: 2, connectionsPerHost: 1 };
    await world.allow(policy([rule({ hosts: [host, 'mail.example'], ports: [443, 25] })], { caps }));
    const port = await world.doorTo(host, 443);
    const first = await tlsTo(port, { servername: host, ca: world.trusted.pem });
    await expect(tlsTo(port, { servername: host, ca: world.trusted.pem })).rejects.toThrow();
    first.destroy();
  });

  it('is opened by its ticket alone, until that is old, unused, replaced, or the session closed', async () => {
    let nowMs = 1_000;
    const world = await place({ now: () => nowMs });
    await world.allow(policy([rule({ hosts: [host] })]));
    const { doors } = world;
    const answers = () => doors.dns(queryFor(host))?.readUInt16BE(6) === 1;
    expect(answers()).toBe(true);
    expect(world.gateway.admit('some-other-ticket-altogether')).toBeNull();
    nowMs += 59_000;
    expect(answers()).toBe(true);
    nowMs += 60_000;
    expect(answers()).toBe(false);
    await world.allow(policy([rule({ hosts: [host] })]));
    for (let turn = 0; turn < 11; turn += 1) {
      nowMs += 50_000;
      expect(answers()).toBe(true);
    }
    nowMs += 50_000;
    expect(answers()).toBe(false);
    await world.allow(policy([rule({ hosts: [host] })]));
    expect(answers()).toBe(true);
    await world.gateway.closeSession({ session: 'ses_1', fence: 99 });
    expect(answers()).toBe(false);
    const late = await world.gateway.closeSession({ session: 'ses_1', fence: 98 });
    expect(late).toMatchObject({ refused: 'fenced' });
  });

  it('keeps the ticket of its owner where another engine opens it under the same fence, and none of an earlier owner', async () => {
    const world = await place();
    const open = (fence: number, ticket: string) =>
      world.gateway.openSession({
        ...{ session: 'ses_1', fence, policy: policy([rule({ hosts: [host] })]), credentials: [], ticket },
        ...{ ticketIdleMs: 60_000, ticketLifeMs: 600_000 },
      });
    await open(7, 'the-ticket-of-the-owner');
    await open(7, 'the-ticket-of-a-guest');
    expect(world.gateway.admit('the-ticket-of-the-owner')).not.toBeNull();
    expect(world.gateway.admit('the-ticket-of-a-guest')).not.toBeNull();
    await open(8, 'the-ticket-of-the-next-owner');
    expect(world.gateway.admit('the-ticket-of-the-owner')).toBeNull();
    expect(world.gateway.admit('the-ticket-of-a-guest')).toBeNull();
  });
});
