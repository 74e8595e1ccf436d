// The gateway's HTTP against real peers: an upstream of ours that echoes, streams, stalls and lies; node's own clients, curl.
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { echoingUpstream, type Reply, replyTo, type Seen } from '../../test/peers/echoing-upstream.ts';
import { policy, rule, tlsServer, tlsTo, World } from '../../test/peers/gateway-world.ts';
import { createAuthority } from './authority.ts';
import type { BoundCredential } from './policy.ts';
import { openFront } from './terminate.ts';

const host = 'api.example';
const secret = 'sk-live/Real+Secret=0123456789';
const placeholder = 'sk-placeholder-a1b2c3d4e5f6g7h';
const credential: BoundCredential = {
  id: 'cred_1',
  placeholder,
  secret,
  hosts: [host, 'liar.example', 'plain.example'],
};

let world: World;
let scout: World;
let door: number;
let ca: string;
const seen: Seen[] = [];

beforeAll(async () => {
  scout = await World.open();
  const http = echoingUpstream(seen);
  const good = await scout.listen(
    await tlsServer(scout.trusted, host, (socket) => http.emit('connection', socket)),
  );
  const liar = await createAuthority('a liar');
  const bad = await scout.listen(
    await tlsServer(liar, 'liar.example', (socket) => http.emit('connection', socket)),
  );
  const free = await scout.listen(
    await tlsServer(scout.trusted, 'free.example', (socket) => http.emit('connection', socket)),
  );
  const plain = await scout.listen(echoingUpstream(seen));
  const pins = [
    `${host}=127.0.0.1:${good}`,
    `liar.example=127.0.0.1:${bad}`,
    `plain.example=127.0.0.1:${plain}`,
    `other.example=127.0.0.1:${good}`,
    `free.example=127.0.0.1:${free}`,
  ];
  world = await World.open({ front: (upstream) => openFront(upstream), askHoldMs: 500 }, pins, scout);
});
afterAll(async () => {
  await world.close();
  await scout.close();
});

beforeEach(async () => {
  seen.length = 0;
  ca = await world.allow(
    policy([rule({ id: 'hosts', hosts: [host, 'liar.example', 'plain.example'], ports: [80, 443, 8080] })]),
    [credential],
  );
  door = await world.doorTo(host, 443);
});

async function ask(
  path: string,
  options: { method?: string; headers?: string[]; body?: string; port?: number; servername?: string } = {},
): Promise<Reply> {
  const { servername = host, port = door, method = 'GET', headers = [], body } = options;
  const socket = await tlsTo(port, { servername, ca });
  const request = httpRequest({
    createConnection: () => socket,
    path,
    method,
    headers: ['Host', servername, ...headers],
  });
  return replyTo(request.end(body));
}

describe('a credential', () => {
  it('goes into headers of its host, and comes back out of head, body and trailers', async () => {
    const reply = await ask('/x', {
      method: 'POST',
      headers: ['Authorization', `Bearer ${placeholder}`],
      body: 'b',
    });
    expect(seen[0]?.headers).toContain(`Bearer ${secret}`);
    expect(reply.headers['x-echo']).toBe(`Bearer ${placeholder}`);
    expect(reply.trailers['x-sum']).toBe(`Bearer ${placeholder}`);
    expect(reply.headers['set-cookie']).toEqual(['a=1', 'b=2']);
    expect(reply.body).toContain(`Bearer ${placeholder}`);
    expect(JSON.stringify(reply)).not.toContain('Real+Secret');
    expect((await world.decisions())[0]).toMatchObject({
      ...{ decision: 'allowed', protocol: 'https', host, rule: 'hosts', method: 'POST', path: '/x' },
      credentials: ['cred_1'],
    });
  });

  it('goes into a Basic pair, as git sends it, and no form of it comes back, byte by byte or compressed', async () => {
    const pair = Buffer.from(`x-access-token:${placeholder}`).toString('base64');
    const real = Buffer.from(`x-access-token:${secret}`).toString('base64');
    for (const path of ['/x', '/bytes', '/gzip']) {
      const reply = await ask(path, {
        headers: ['Authorization', `Basic ${pair}`, 'Accept-Encoding', 'gzip'],
      });
      expect(seen.at(-1)?.headers).toContain(`Basic ${real}`);
      expect(seen.at(-1)?.headers).toContain('identity');
      expect(reply.body).toContain(`Basic ${pair}`);
      expect(JSON.stringify(reply)).not.toContain(real.slice(22, -4));
    }
  });

  it('is not sent in a body, a path, or a header name, nor to another host, nor in clear', async () => {
    await ask(`/x?key=${placeholder}`, { method: 'POST', body: placeholder });
    expect(seen.at(-1)).toMatchObject({ url: `/x?key=${placeholder}`, body: placeholder });
    const request = httpRequest({
      ...{ host: '127.0.0.1', port: await world.doorTo('plain.example', 80), agent: false },
      headers: ['Host', 'plain.example', 'Authorization', placeholder],
    });
    expect((await replyTo(request.end())).status).toBe(200);
    expect(seen.at(-1)?.headers).toContain(placeholder);
    ca = await world.allow(policy([rule({ hosts: ['other.example', 'free.example'], paths: ['/**'] })]), [
      credential,
    ]);
    const port = await world.doorTo('free.example', 443);
    const elsewhere = await ask('/x', {
      servername: 'free.example',
      port,
      headers: ['Authorization', placeholder],
    });
    expect(elsewhere.headers['x-echo']).toBe(placeholder);
    expect(seen.at(-1)?.headers).toContain(placeholder);
    // other.example is the same server: its certificate does not name it, so nothing is sent at all.
    const reply = await ask('/x', {
      servername: 'other.example',
      port: await world.doorTo('other.example', 443),
    });
    expect(reply.status).toBe(502);
    expect(JSON.stringify(seen)).not.toContain('Real+Secret');
  });

  it('is not sent where the certificate is not to be believed', async () => {
    const port = await world.doorTo('liar.example', 443);
    const reply = await ask('/x', {
      servername: 'liar.example',
      port,
      headers: ['Authorization', placeholder],
    });
    expect(reply.status).toBe(502);
    expect(reply.body).toContain('TLS with liar.example failed');
    expect(seen).toEqual([]);
  });

  it('does not come back in an encoding that cannot be read', async () => {
    await expect(ask('/odd', { headers: ['Authorization', placeholder] })).rejects.toThrow();
  });

  it('is unknown once the session is given others, on a connection that is open', async () => {
    const socket = await tlsTo(door, { servername: host, ca });
    const say = () => socket.write(`GET /x HTTP/1.1\r\nHost: ${host}\r\nX-Key: ${placeholder}\r\n\r\n`);
    say();
    await once(socket, 'data');
    await world.allow(policy([rule({ id: 'hosts', hosts: [host] })]));
    say();
    await expect.poll(() => seen.length).toBe(2);
    expect(seen.map(({ headers }) => headers.includes(secret))).toEqual([true, false]);
    socket.destroy();
  });
});

describe('a request', () => {
  it('that a rule denies is answered 403 with the rule; others pass on the same host', async () => {
    ca = await world.allow(
      policy([
        rule({ id: 'read', hosts: [host], methods: ['GET'], paths: ['/repos/**'] }),
        rule({ id: 'no-secrets', effect: 'deny', hosts: [host], paths: ['/repos/*/secrets'] }),
      ]),
    );
    expect((await ask('/repos/a/b')).status).toBe(200);
    const denied = await ask('/repos/a/secrets');
    expect(denied.status).toBe(403);
    expect(JSON.parse(denied.body)).toMatchObject({ error: { type: 'network_policy', rule: 'no-secrets' } });
    expect((await ask('/repos/a/../b/secrets')).status).toBe(403);
    expect((await ask('/repos/a', { method: 'DELETE' })).status).toBe(403);
    expect((await ask('/repos/a', { headers: ['X-HTTP-Method-Override', 'DELETE'] })).status).toBe(403);
    expect(seen).toHaveLength(1);
  });

  it('for another host is answered 421, in every way of naming one', async () => {
    const lines = [
      'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: ${host}:8443\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${host}\r\nHost: evil.example\r\n\r\n`,
      `GET https://evil.example/ HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
      'GET / HTTP/1.1\r\n\r\n',
    ];
    const statuses = await Promise.all(lines.map((line) => raw(line)));
    expect(statuses.map((text) => text.slice(9, 12))).toEqual(['421', '421', '400', '400', '400']);
    expect(seen).toEqual([]);
  });

  it('whose body can be framed in two ways is refused', async () => {
    const head = `POST / HTTP/1.1\r\nHost: ${host}\r\n`;
    const attacks = [
      'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n',
      'Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
      'Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
      'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
      'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n',
      'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n',
      'Content-Length: +5\r\n\r\nhello',
      'Transfer-Encoding: chunked\r\n\r\n5;\nx\r\nhello\r\n0\r\n\r\n',
    ];
    for (const attack of attacks) expect((await raw(head + attack)).slice(9, 12), attack).toBe('400');
    expect(seen).toEqual([]);
  });

  it('that asks is held until it is allowed, and refused when nobody answers', async () => {
    const asking = policy([
      rule({ id: 'posts', effect: 'ask', hosts: [host], methods: ['POST'] }),
      rule({ hosts: [host] }),
    ]);
    ca = await world.allow(asking);
    await world.decisions(0);
    const waiting = ask('/x', { method: 'POST' });
    await expect.poll(async () => JSON.stringify(await world.decisions(0))).toContain('"asked"');
    await world.allow(policy([rule({ id: 'yes', hosts: [host], methods: ['POST'] })]));
    expect((await waiting).status).toBe(200);
    await world.allow(asking);
    expect(await ask('/x', { method: 'POST' })).toMatchObject({ status: 403 });
  });

  it('that waits for 100 gets it from the upstream; one whose upstream dies gets 502, or a broken body', async () => {
    const waits = ['Expect', '100-continue', 'Content-Length', '2'];
    const reply = await ask('/x', { method: 'PUT', headers: waits, body: 'ok' });
    expect(reply.status).toBe(200);
    expect(seen[0]?.body).toBe('ok');
    expect((await ask('/cut')).status).toBe(502);
    await expect(ask('/half')).rejects.toThrow();
  });

  it('streams both ways at once, chunk by chunk', async () => {
    const socket = await tlsTo(door, { servername: host, ca });
    const request = httpRequest({
      createConnection: () => socket,
      path: '/events',
      method: 'POST',
      headers: { host },
    });
    request.flushHeaders();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    for (const word of ['one', 'two', 'three']) {
      request.write(word);
      expect(String((await once(response, 'data'))[0])).toBe(word);
    }
    request.end();
    response.resume();
    await once(response, 'end');
  });

  it('of 30 MB passes whole', async () => {
    const body = Buffer.alloc(30_000_000, 'abcdefg ').toString();
    const reply = await ask('/x', { method: 'POST', body });
    expect(reply.body.endsWith(body)).toBe(true);
  });

  it('of chunks keeps its trailers', async () => {
    const text = 'POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n';
    await raw(`${text}Host: ${host}\r\nConnection: close\r\n\r\n2\r\nhi\r\n0\r\nX-T: yes\r\n\r\n`);
    expect(seen[0]).toMatchObject({ body: 'hi', trailers: ['X-T', 'yes'] });
  });
});

async function raw(text: string): Promise<string> {
  const socket = await tlsTo(door, { servername: host, ca });
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  socket.on('error', () => undefined);
  socket.write(text);
  await expect.poll(() => answer).toMatch(/\r\n\r\n/);
  socket.destroy();
  return answer;
}

describe('a WebSocket', () => {
  it('is brokered like a request, then carries bytes both ways, without the secret in them', async () => {
    const socket = await tlsTo(door, { servername: host, ca });
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.write(
      `GET /ws HTTP/1.1\r\nHost: ${host}\r\nAuthorization: ${placeholder}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    );
    await expect.poll(() => text).toContain('\n***');
    socket.write('frame');
    await expect.poll(() => text).toContain('frame');
    expect(text.startsWith('HTTP/1.1 101')).toBe(true);
    expect(text).not.toContain('Real+Secret');
    socket.destroy();
  });

  it('to a path that is denied is refused, and h2c is no way around', async () => {
    ca = await world.allow(
      policy([rule({ hosts: [host] }), rule({ effect: 'deny', hosts: [host], paths: ['/ws'] })]),
    );
    const upgrade = 'Connection: Upgrade\r\nUpgrade: ';
    expect(await raw(`GET /ws HTTP/1.1\r\nHost: ${host}\r\n${upgrade}websocket\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 403/,
    );
    expect(await raw(`GET /ok HTTP/1.1\r\nHost: ${host}\r\n${upgrade}h2c\r\n\r\n`)).toMatch(/^HTTP\/1.1 200/);
    expect(await raw(`CONNECT evil.example:443 HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).toMatch(/^HTTP\/1.1 405/);
  });
});

async function ask2(headers: Record<string, string>, body?: string) {
  const socket = await tlsTo(door, { servername: host, ca, ALPNProtocols: ['h2'] });
  const session = connectHttp2(`https://${host}`, { createConnection: () => socket });
  const stream = session.request(
    { ':path': '/x', ':authority': host, ...headers },
    { endStream: body === undefined },
  );
  if (body !== undefined) stream.end(body);
  const trailers: unknown[] = [];
  stream.on('trailers', (given) => trailers.push({ ...given }));
  stream.once('close', () => session.close());
  const [head] = await once(stream, 'response');
  let text = '';
  for await (const chunk of stream) text += chunk;
  return { status: head[':status'], head, text, trailers };
}

describe('HTTP/2 from the sandbox', () => {
  it('is judged and brokered stream by stream, with trailers and cookies', async () => {
    const reply = await ask2({ ':method': 'POST', authorization: placeholder, cookie: 'c=1' }, 'body');
    expect(reply.status).toBe(200);
    expect(reply.head['x-echo']).toBe(placeholder);
    expect(reply.trailers).toMatchObject([{ 'x-sum': placeholder }]);
    expect(seen[0]).toMatchObject({ method: 'POST', body: 'body' });
    expect(seen[0]?.headers).toContain(secret);
    expect(reply.text).not.toContain('Real+Secret');
  });

  it('whose answer HTTP/2 cannot say ends alone; the gateway and its other streams go on', async () => {
    await expect(ask2({ ':path': '/600' })).rejects.toThrow();
  });

  it('for another authority, or two of them, is answered 421 or 400', async () => {
    expect((await ask2({ ':authority': 'evil.example' })).status).toBe(421);
    expect((await ask2({ host: 'evil.example' })).status).toBe(400);
    expect(seen).toEqual([]);
  });
});

describe('HTTP in clear', () => {
  it('passes to a host that it names, on port 80 and others, and not to another', async () => {
    for (const port of [80, 8080]) {
      const door80 = await world.doorTo('plain.example', port);
      const named = port === 80 ? 'plain.example' : `plain.example:${port}`;
      const get = (name: string) =>
        replyTo(
          httpRequest({
            host: '127.0.0.1',
            port: door80,
            agent: false,
            path: '/p',
            headers: { host: name },
          }).end(),
        );
      expect(await get(named)).toMatchObject({ status: 200 });
      expect(await get('evil.example')).toMatchObject({ status: 421 });
    }
    const slow = connect(await world.doorTo('plain.example', 8080), '127.0.0.1');
    let text = '';
    slow.on('data', (data) => {
      text += data;
    });
    for (const piece of ['GE', 'T /p HT', 'TP/1.1\r\nHost: plain.exa', 'mple:8080\r\n', '\r\n']) {
      slow.write(piece);
      await new Promise((done) => setTimeout(done, 5));
    }
    await expect.poll(() => text).toMatch(/^HTTP\/1.1 200/);
    slow.destroy();
  });
});

describe('a connection that has ended', () => {
  it('is no longer counted, of either version of HTTP', async () => {
    const caps = { bytesPerHost: null, connections: 1, connectionsPerHost: 1 };
    ca = await world.allow(policy([rule({ hosts: [host], paths: ['/**'] })], { caps }));
    for (const turn of [() => ask('/x'), () => ask2({}), () => ask('/x'), () => ask2({}), () => ask('/x')]) {
      await expect.poll(async () => (await turn().catch(() => null))?.status).toBe(200);
    }
  });
});
