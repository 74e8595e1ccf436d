// What people run in a sandbox: curl and git, unchanged, against a door that stands for their captured sockets.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { policy, rule, tlsServer, World } from '../../test/peers/gateway-world.ts';
import { openFront } from './terminate.ts';

const run = promisify(execFile);
const host = 'git.example';
const secret = 'ghp_the_real_token_of_somebody';
const placeholder = 'ghp_placeholder_for_the_sandbox';
const folder = mkdtempSync(path.join(tmpdir(), 'gateway-clients-'));
const git = (...args: string[]) =>
  run('git', ['-c', 'user.name=a', '-c', 'user.email=a@b.example', ...args], {
    env: {
      ...process.env,
      HOME: folder,
      GIT_TERMINAL_PROMPT: '0',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_SSL_CAINFO: ca,
    },
  });

let scout: World;
let world: World;
let port: number;
let ca = '';

/** A repository as files, for whoever knows the token. */
function repository(request: IncomingMessage, response: ServerResponse): void {
  const wanted = `Basic ${Buffer.from(`x-access-token:${secret}`).toString('base64')}`;
  if (request.headers.authorization !== wanted) {
    response
      .writeHead(401, { 'www-authenticate': 'Basic realm="r"' })
      .end(`not ${request.headers.authorization}`);
    return;
  }
  const [file = ''] = (request.url ?? '').split('?');
  try {
    response.end(readFileSync(path.join(folder, path.posix.normalize(file))));
  } catch {
    response.writeHead(404).end();
  }
}

beforeAll(async () => {
  scout = await World.open();
  const http = createServer(repository);
  const upstream = await scout.listen(
    await tlsServer(scout.trusted, host, (socket) => http.emit('connection', socket)),
  );
  const pins = [`${host}=127.0.0.1:${upstream}`];
  world = await World.open({ front: (dial) => openFront(dial) }, pins, scout);
  await world.allow(policy([rule({ hosts: [host] })]));
  port = await world.doorAtItsPort(world.addressOf(host) ?? '');
  const pem = await world.allow(policy([rule({ hosts: [host], ports: [port] })]), [
    { id: 'cred_git', placeholder, secret, hosts: [host] },
  ]);
  ca = path.join(folder, 'ca.pem');
  writeFileSync(ca, pem);
  await git('init', '-q', path.join(folder, 'work'));
  await git('-C', path.join(folder, 'work'), 'commit', '-q', '--allow-empty', '-m', 'first');
  await git('clone', '-q', '--bare', path.join(folder, 'work'), path.join(folder, 'repo.git'));
  await git('-C', path.join(folder, 'repo.git'), 'update-server-info');
});
afterAll(async () => {
  await world.close();
  await scout.close();
  rmSync(folder, { recursive: true });
});

const curl = (...args: string[]) =>
  run('curl', ['-sS', '--max-time', '10', '--cacert', ca, '--resolve', `${host}:${port}:127.0.0.1`, ...args]);

describe('a client that knows nothing of the gateway', () => {
  it('clones over https with a token it does not have', async () => {
    const url = `https://x-access-token:${placeholder}@${host}:${port}/repo.git`;
    const to = path.join(folder, 'clone');
    const config = ['-c', `http.curloptResolve=${host}:${port}:127.0.0.1`];
    await git(...config, 'clone', '-q', url, to);
    expect((await git('-C', to, 'log', '--format=%s')).stdout).toBe('first\n');
    expect(readFileSync(path.join(to, '.git', 'config'), 'utf8')).not.toContain(secret);
  });

  it.each(['--http1.1', '--http2'])(
    'is answered over %s, and sees no token in a refusal that repeats it',
    async (version) => {
      const url = `https://${host}:${port}/`;
      const { stdout } = await curl(
        version,
        '-w',
        '%{http_version}',
        '-H',
        `Authorization: Bearer ${placeholder}`,
        url,
      );
      expect(stdout).toContain(`not Bearer ${placeholder}`);
      expect(stdout.endsWith(version === '--http2' ? '2' : '1.1')).toBe(true);
    },
  );

  it('uploads what waits for 100, and is reset for another name', async () => {
    const file = path.join(folder, 'upload');
    writeFileSync(file, Buffer.alloc(3_000_000, 'x'));
    const sent = await curl(
      '-H',
      'Expect: 100-continue',
      '-T',
      file,
      '-w',
      '%{http_code}',
      `https://${host}:${port}/u`,
    );
    expect(sent.stdout).toContain('401');
    const spoof = curl(
      '--connect-to',
      `evil.example:${port}:${host}:${port}`,
      `https://evil.example:${port}/`,
    );
    await expect(spoof).rejects.toThrow();
  });
});
