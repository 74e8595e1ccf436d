/**
 * Environments, whole: real server, engine, host, build sandbox, gateway process and the real npm registry, as this machine's
 * own npm reaches it. Without that registry the tests that need it are skipped, aloud.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { createAuthority } from '../src/gateway/authority.ts';
import { type RunningServer, startServer } from '../src/main.ts';
import { findHost } from '../src/sandbox/host/adopt.ts';

function script(turn: Turn): Reply {
  if (turn.lastToolOutput) return { text: turn.lastToolOutput.text };
  return { toolCalls: [{ name: 'bash', arguments: { command: turn.userText } }] };
}

/** Of this machine: its registry, and where its name leads. Null: it cannot be reached. */
async function registry(): Promise<{ url: URL; address: string } | null> {
  try {
    const said = execFileSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8', cwd: tmpdir() });
    const url = new URL(said.trim());
    const answer = await fetch(new URL('left-pad', url), { signal: AbortSignal.timeout(15_000) });
    return answer.ok ? { url, address: (await lookup(url.hostname)).address } : null;
  } catch {
    return null;
  }
}

/** What this machine's operator trusts besides the usual: where Debian keeps it. */
async function ownAuthorities(): Promise<string> {
  const folder = '/usr/local/share/ca-certificates';
  const names = await readdir(folder).catch(() => []);
  const files = names.filter((name) => name.endsWith('.crt'));
  return (await Promise.all(files.map((name) => readFile(path.join(folder, name), 'utf8')))).join('\n');
}

const reached = await registry();
if (!reached) console.warn('SKIPPED: the npm registry of this machine cannot be reached');

let directory: string;
let model: Rehearsal;
let server: RunningServer;
let agentId: string;
let packages: Server;
/** A package for pip. */
let wheel: Buffer;
/** What it was asked, with the authorization it was shown. */
const asked: string[] = [];

type Json = Record<string, unknown> & { id: string; type: string };

async function ask(method: string, where: string, body?: unknown): Promise<{ status: number; body: Json }> {
  const response = await fetch(new URL(where, server.url), {
    method,
    headers: { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Json };
}

async function api(method: string, where: string, body?: unknown): Promise<Json> {
  const answer = await ask(method, where, body);
  if (answer.status !== 200) throw new Error(`${method} ${where}: ${JSON.stringify(answer)}`);
  return answer.body;
}

async function environment(config: object): Promise<string> {
  return (
    await api('POST', '/v1/environments', {
      name: `room ${Math.random()}`,
      config: { type: 'cloud', ...config },
    })
  ).id;
}

async function session(environmentId: string): Promise<string> {
  return (await api('POST', '/v1/sessions', { agent: agentId, environment_id: environmentId })).id;
}

async function events(id: string): Promise<Json[]> {
  return (await api('GET', `/v1/sessions/${id}/events?limit=1000`)).data as Json[];
}

async function run(id: string, command: string): Promise<string> {
  const idle = async () => (await events(id)).filter((one) => one.type === 'session.status_idle').length;
  const before = await idle();
  await api('POST', `/v1/sessions/${id}/events`, {
    events: [{ type: 'user.message', content: [{ type: 'text', text: command }] }],
  });
  for (let tries = 0; tries < 600; tries++) {
    if ((await idle()) > before) {
      const said = (await events(id)).findLast((one) => one.type === 'agent.message');
      return ((said?.content ?? []) as { text: string }[])[0]?.text ?? '';
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`the turn did not end: ${JSON.stringify((await events(id)).slice(-8), null, 1)}`);
}

const sha256Of = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-environments-'));
  const authoritiesFile = path.join(directory, 'authorities.pem');
  const making =
    "import zipfile as z; w = z.ZipFile('tiny.whl', 'w'); d = 'tiny-1.0.dist-info/'; w.writestr('tiny.py', 'word = \\'small\\'\\n'); " +
    "w.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n'); " +
    "w.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'); " +
    "w.writestr(d + 'RECORD', 'tiny.py,,\\n' + d + 'METADATA,,\\n' + d + 'WHEEL,,\\n' + d + 'RECORD,,\\n'); w.close()";
  execFileSync('python3', ['-c', making], { cwd: directory });
  wheel = await readFile(path.join(directory, 'tiny.whl'));
  const authority = await createAuthority('a registry of our own');
  packages = createServer(
    {
      SNICallback: (name, done) =>
        void authority.contextFor(name).then((context) => done(null, context), done),
    },
    (request, response) => {
      response.setHeader('content-type', 'text/html');
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      if (request.url === '/tiny/')
        response.end(`<a href="/tiny-1.0-py3-none-any.whl#sha256=${sha256Of(wheel)}">tiny</a>`);
      else response.end(request.url?.endsWith('.whl') ? wheel : 'private package\n');
    },
  );
  await new Promise<void>((resolve) => packages.listen(0, '127.0.0.1', resolve));
  const { port } = packages.address() as AddressInfo;
  const pems = `${await ownAuthorities()}\n${authority.pem}`;
  await writeFile(authoritiesFile, pems);
  model = await startRehearsal({ script, port: 0 });
  server = await startServer({
    dataDir: path.join(directory, 'data'),
    port: 0,
    model: { baseURL: model.url, apiKey: 'sk-rehearsal' },
    // What this machine's own settings say is handed over in so many words; nothing of them is inherited.
    network: {
      pins: [
        `packages.example=127.0.0.1:${port}`,
        ...(reached ? [`${reached.url.hostname}=${reached.address}`] : []),
      ],
      authoritiesFile,
    },
    registries: { pip: 'https://packages.example/', ...(reached ? { npm: reached.url.href } : {}) },
  });
  const tools = [
    { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_allow' } } },
  ];
  agentId = (await api('POST', '/v1/agents', { name: 'Scribe', model: 'gpt-5.2-codex', tools })).id;
}, 120_000);

afterAll(async () => {
  await server?.close();
  packages?.close();
  await model?.stop();
  await rm(directory, { recursive: true, force: true });
});

describe.skipIf(!reached)('with the npm registry', () => {
  it('packages, files and setup commands are in every session of the environment, which cannot write there and reaches no registry', async () => {
    const id = await environment({
      packages: { npm: ['left-pad@1.3.0', 'cowsay@1.6.0'] },
      files: [{ path: '/opt/env/etc/motto', content: 'write less\n' }],
      setup: [
        { run: 'mkdir -p bin && printf "#!/bin/sh\necho made by setup\n" > bin/made && chmod 755 bin/made' },
      ],
      env: { GREETING: 'good day' },
    });
    const first = await session(id);
    const said = await run(
      first,
      "node -e \"console.log(require('left-pad')('x', 5, '-'))\"; cowsay moo; made; cat /opt/env/etc/motto; echo $GREETING; " +
        'touch /opt/env/mine || echo read-only; curl -sS -m 5 https://registry.npmjs.org/ || echo sealed',
    );
    for (const part of ['----x', '< moo >', 'made by setup', 'write less', 'good day', 'read-only', 'sealed'])
      expect(said).toContain(part);
    const types = (await events(first)).map(({ type }) => type);
    const order = ['environment.build_started', 'environment.build_finished', 'sandbox.started'];
    expect(types.filter((type) => order.includes(type))).toEqual(order);

    // The model is told, so that it does not try to install what is there.
    expect(model.requests.map(({ body }) => String(body)).join()).toContain(
      'npm left-pad@1.3.0, npm cowsay@1.6.0',
    );

    const second = await session(id);
    expect(await run(second, 'cowsay again')).toContain('< again >');
    const [built] = (await events(first)).filter(({ type }) => type === 'environment.build_finished');
    const [found] = (await events(second)).filter(({ type }) => type === 'environment.build_finished');
    expect(built).toMatchObject({ reused: false, digest: found?.digest });
    expect(found).toMatchObject({ reused: true });
    console.log(`built in ${built?.duration_ms} ms, found in ${found?.duration_ms} ms`);
  }, 240_000);

  it('a layer that is gone is made again from its lock, the same to the last byte, and what was really installed can be seen', async () => {
    const id = await environment({ packages: { npm: ['cowsay'] } });
    const first = await built(id);
    expect(first).toMatchObject({ status: 'ready', digest: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(first.packages).toContainEqual({
      manager: 'npm',
      name: 'cowsay',
      version: expect.stringMatching(/^\d/),
      hash: expect.stringMatching(/^sha512-/),
    });
    const { removed } = await api('POST', '/v1/environment_layers/clean', { older_than_seconds: 0 });
    expect(removed).toContain(first.digest);
    const one = await session(id);
    expect(await run(one, 'cowsay back')).toContain('< back >');
    const finished = (await events(one)).find(({ type }) => type === 'environment.build_finished');
    expect(finished).toMatchObject({ digest: first.digest, reused: false });
  }, 120_000);

  it('a registry that is none of a package manager’s is refused to a build, and the failure says which', async () => {
    const build = await built(await environment({ setup: [{ run: 'curl -sS -m 5 https://example.com/' }] }));
    expect(build).toMatchObject({ status: 'failed' });
    expect((build.error as { message: string }).message).toContain('refused example.com');
  }, 60_000);
});

it('history grows, and a rollback is a new version that is what an earlier one was', async () => {
  const id = await environment({ env: { COLOUR: 'red' } });
  const where = `/v1/environments/${id}`;
  await api('POST', where, { config: { type: 'cloud', env: { COLOUR: 'blue' } } });
  expect((await ask('POST', `${where}/rollback`, { version: 2 })).status).toBe(404);
  expect((await ask('POST', `${where}/rollback`, { version: 7 })).status).toBe(404);
  const back = await api('POST', `${where}/rollback`, { version: 1 });
  expect(back).toMatchObject({ version: 3, config: { env: { COLOUR: 'red' } } });
  const versions = (await api('GET', `${where}/versions`)).data as Json[];
  expect(versions.map((one) => [one.version, (one.config as { env: object }).env])).toEqual([
    [3, { COLOUR: 'red' }],
    [2, { COLOUR: 'blue' }],
    [1, { COLOUR: 'red' }],
  ]);
  expect(await api('POST', `${where}/build`)).toMatchObject({ status: 'nothing_to_build', version: 3 });
});

async function built(id: string): Promise<Json> {
  // A host that was killed a moment ago is away for a moment, and that is said so.
  let asked = await ask('POST', `/v1/environments/${id}/build`);
  while (asked.status === 503) asked = await ask('POST', `/v1/environments/${id}/build`);
  expect(asked.status).toBe(200);
  let build = asked.body;
  for (let tries = 0; build.status === 'building' && tries < 600; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    build = await api('GET', `/v1/environments/${id}/build`);
  }
  return build;
}

it('a setup command that fails is named with its exit code and its last words, and leaves nothing half-made', async () => {
  const id = await environment({
    setup: [{ run: 'echo fine' }, { run: 'touch half; echo no such luck >&2; exit 3' }],
  });
  const build = await built(id);
  expect(build).toMatchObject({
    status: 'failed',
    digest: null,
    error: {
      step: 'setup[1]',
      command: 'touch half; echo no such luck >&2; exit 3',
      exit_code: 3,
      output: 'no such luck\n',
    },
  });
  const one = await session(id);
  expect(await run(one, 'echo ran')).toContain('no such luck');
  const types = (await events(one)).map(({ type }) => type);
  expect(types).toContain('environment.build_failed');
  expect(types).not.toContain('sandbox.started');
  const host = path.join(directory, 'data', 'host');
  expect((await readdir(path.join(host, 'sessions'))).filter((name) => name.startsWith('build_'))).toEqual(
    [],
  );
});

async function killHost(): Promise<void> {
  const observer = await findHost(path.join(directory, 'data', 'host'));
  const hello = await observer?.hello();
  await observer?.close();
  if (hello) process.kill(hello.pid, 'SIGKILL');
}

it('a build whose host is killed is built by the next, and nothing of the first is left', async () => {
  const id = await environment({ setup: [{ run: 'date +%N > when; sleep 3' }] });
  await api('POST', `/v1/environments/${id}/build`);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  await killHost();
  const one = await session(id);
  expect(await run(one, 'cat /opt/env/when')).toMatch(/^\d+/);
  const sessions = await readdir(path.join(directory, 'data', 'host', 'sessions'));
  expect(sessions.filter((name) => name.startsWith('build_'))).toEqual([]);

  // The layer itself is lost, too: it is made again, and that another one came out is said.
  await killHost();
  await rm(path.join(directory, 'data', 'host', 'images'), { recursive: true });
  expect(await run(one, 'cat /opt/env/when')).toMatch(/^\d+/);
  const types = (await events(one)).map(({ type }) => type);
  expect(types.filter((type) => type === 'environment.build_finished')).toHaveLength(2);
  expect(types).toContain('environment.drifted');
}, 90_000);

it('a base that has changed since the build is said in the log of the session', async () => {
  const id = await environment({ setup: [{ run: 'echo here > here' }] });
  const { digest } = await built(id);
  const file = path.join(directory, 'data', 'host', 'images', String(digest), 'environment.lock');
  const lock = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...lock, base: { ...lock.base, release: '1.0' } }));
  const one = await session(id);
  await run(one, 'true');
  const drifted = (await events(one)).find(({ type }) => type === 'environment.drifted');
  expect(drifted).toMatchObject({ digest, message: expect.stringContaining('1.0') });
});

it('a secret of a setup command reaches the registry that it is bound to, and is nowhere in layer, log or answers (S1)', async () => {
  const canary = `canary-${randomUUID()}`;
  const vault = await api('POST', '/v1/vaults', { display_name: 'build' });
  const limited = (host: string) => ({ type: 'limited', allowed_hosts: [host] });
  const store = (name: string, host: string) =>
    api('POST', `/v1/vaults/${vault.id}/credentials`, {
      auth: {
        type: 'environment_variable',
        secret_name: name,
        secret_value: canary,
        networking: limited(host),
      },
    });
  await store('TOKEN', 'packages.example');
  await store('ELSEWHERE', 'elsewhere.example');
  const secrets = [{ vault_id: vault.id, name: 'TOKEN' }];
  const run =
    'curl -sS -H "Authorization: Bearer $TOKEN" https://packages.example/private > got; env > env; echo $TOKEN > leak';
  const id = await environment({ setup: [{ run, secrets }, { run: 'test -z "$TOKEN"; env > later' }] });
  const build = await built(id);
  expect(build).toMatchObject({ status: 'ready' });
  expect(asked).toContain(`GET /private Bearer ${canary}`);
  const layer = path.join(directory, 'data', 'host', 'images', String(build.digest), 'layer');
  const files = Object.fromEntries(
    await Promise.all(
      ['got', 'env', 'leak', 'later'].map(async (name) => [
        name,
        await readFile(path.join(layer, name), 'utf8'),
      ]),
    ),
  );
  expect(files.got).toBe('private package\n');
  expect(files.leak.length).toBeGreaterThan(8);
  expect(files.later).not.toContain('TOKEN');
  const told = JSON.stringify([files, build, await api('GET', `/v1/environments/${id}/versions`)]);
  expect(told).not.toContain(canary);

  const lost = await built(
    await environment({ setup: [{ run: 'true', secrets: [{ vault_id: vault.id, name: 'ELSEWHERE' }] }] }),
  );
  expect((lost.error as { message: string }).message).toContain('ELSEWHERE');
  const none = await built(
    await environment({ setup: [{ run: 'true', secrets: [{ vault_id: vault.id, name: 'NOBODY' }] }] }),
  );
  expect((none.error as { message: string }).message).toContain('has no variable NOBODY');
}, 60_000);

it('pip packages of a registry of the operator’s own are installed, locked by hash, come out the same again, and are refused when they do not', async () => {
  const id = await environment({ packages: { pip: ['tiny'] } });
  const first = await built(id);
  expect(first).toMatchObject({
    status: 'ready',
    packages: [{ manager: 'pip', name: 'tiny', version: '1.0', hash: `sha256:${sha256Of(wheel)}` }],
  });
  expect(await run(await session(id), 'python3 -c "import tiny; print(tiny.word)"')).toContain('small');
  await killHost();
  await rm(path.join(directory, 'data', 'host', 'images'), { recursive: true });
  expect((await built(id)).digest).toBe(first.digest);

  // A registry that gives another thing under the same name and version.
  await killHost();
  await rm(path.join(directory, 'data', 'host', 'images'), { recursive: true });
  wheel = Buffer.concat([wheel, Buffer.from('and more')]);
  const swapped = await built(id);
  expect(swapped).toMatchObject({ status: 'failed', error: { step: 'pip' } });
  expect((swapped.error as { output: string }).output).toMatch(/hash/i);
}, 60_000);
