/**
 * Gateways of a fleet: two engines on a real Postgres, a host and a gateway as processes, real sandboxes, and a TLS server on
 * loopback that the operator named. Whatever dies, a session goes out by the gateway beside its host or not at all (S1, S2, S4).
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { createAuthority } from '../src/gateway/authority.ts';
import { RpcPeer } from '../src/link/rpc.ts';
import { apiIdentity, keyOf, parseToken, readClusterSecret, type Token } from '../src/link/secret.ts';
import { type Address, dialLink, parseAddress } from '../src/link/tls.ts';
import { FleetProcesses, fleetKey, get, type Running, until } from './peers/fleet-processes.ts';

/** What is said is a command, and its output is the answer; after `RUN:` there are two, with ` && then ` between them. */
function script(turn: Turn): Reply {
  const bash = (command: string): Reply => ({ toolCalls: [{ name: 'bash', arguments: { command } }] });
  const [, many = ''] = turn.userText.split('RUN:');
  const next = many.split(' && then ')[turn.toolOutputs.length];
  if (many !== '' && next !== undefined) return bash(next);
  return turn.lastToolOutput ? { text: turn.lastToolOutput.text } : bash(turn.userText);
}

const patience = { timeout: 60_000 };
/** How often the slow answer says something, and how many times. */
const drops = 60;
const dropMs = 100;

let model: Rehearsal;
let fleet: FleetProcesses;
let upstream: Server;
let api: Running;
let engines: Running[];
let host: Running;
let gateway: Running;
let agentId: string;
/** Requests that the world saw. */
const seen: string[] = [];
let onDrop = (_: number): void => {};

type Json = {
  id: string;
  type: string;
  status: string;
  message: string;
  decision: string;
  host: string;
  content: { text: string }[];
  data: Json[];
};

type Workers = { data: { info: { engine?: string } }[] };

async function drip(response: ServerResponse): Promise<void> {
  for (let count = 1; count <= drops && !response.destroyed; count++) {
    response.write(`drop ${count}\n`);
    onDrop(count);
    await sleep(dropMs);
  }
  response.end('the last\n');
}

async function post(where: string, body: object): Promise<Json> {
  const response = await fetch(`${api.line.url}${where}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${fleetKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const answer = (await response.json()) as Json;
  if (!response.ok) throw new Error(`${where}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

async function room(): Promise<string> {
  const networking = { type: 'limited', allowed_hosts: ['good.example'] };
  const name = `room ${Math.random()}`;
  return (await post('/v1/environments', { name, config: { type: 'cloud', networking } })).id;
}

async function begin(): Promise<string> {
  return (await post('/v1/sessions', { agent: agentId, environment_id: await room() })).id;
}

const eventsOf = async (session: string): Promise<Json[]> =>
  (await get<Json>(api.line.url ?? '', `/v1/sessions/${session}/events?limit=1000`)).data;
const decisionsOf = async (session: string): Promise<Json[]> =>
  (await eventsOf(session)).filter(({ type }) => type === 'network.decision');

async function say(session: string, command: string): Promise<void> {
  const content = [{ type: 'text', text: command }];
  await post(`/v1/sessions/${session}/events`, { events: [{ type: 'user.message', content }] });
}

/** Sends a command and gives what it printed. */
async function run(session: string, command: string): Promise<string> {
  const rests = async () =>
    (await eventsOf(session)).filter(({ type }) => type === 'session.status_idle').length;
  const before = await rests();
  await say(session, command);
  await until(async () => (await rests()) > before, 'the turn ends', 40_000);
  return lastWords(session);
}

async function lastWords(session: string): Promise<string> {
  const said = (await eventsOf(session)).filter(({ type }) => type === 'agent.message');
  return said.at(-1)?.content[0]?.text ?? '';
}

async function engineOf(session: string): Promise<Running | undefined> {
  const rows = await fleet.query<{ info: string | null }>(
    'SELECT w.info FROM streams s JOIN workers w ON w.worker = s.owner WHERE s.stream = $1',
    [session],
  );
  const { pid } = JSON.parse(rows[0]?.info ?? '{}') as { pid?: number };
  return engines.find(({ child }) => child.pid === pid);
}

beforeAll(async () => {
  const authority = await createAuthority('the world');
  upstream = createServer(
    {
      SNICallback: (name, done) =>
        void authority.contextFor(name).then((context) => done(null, context), done),
    },
    (request, response) => {
      seen.push(`${request.headers.host} ${request.url}`);
      if (request.url === '/slow') void drip(response);
      else response.end(`hello from ${request.headers.host}\n`);
    },
  );
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const { port } = upstream.address() as AddressInfo;
  model = await startRehearsal({ script });
  fleet = await FleetProcesses.start(model.url);
  writeFileSync(fleet.file('world.pem'), authority.pem);
  fleet.gatewayArguments = [
    ...['good.example', 'other.example'].flatMap((name) => ['--resolve', `${name}=127.0.0.1:${port}`]),
    ...['--trust-ca', fleet.file('world.pem')],
  ];
  api = await fleet.serve('api');
  engines = await Promise.all([fleet.serve('engine'), fleet.serve('engine')]);
  // The one without a gateway comes first: sessions with a network must not be placed there.
  await fleet.host('bare', api.line.url ?? '');
  gateway = await fleet.gateway('one', api.line.url ?? '');
  host = await fleet.host('one', api.line.url ?? '', undefined, gateway.line.capture_dir ?? '');
  await until(async () => {
    const { data } = await get<Json>(api.line.url ?? '', '/v1/hosts');
    return data.filter(({ status }) => status === 'connected').length === 2;
  }, 'the hosts are connected');
  const tools = [
    { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_allow' } } },
  ];
  agentId = (await post('/v1/agents', { name: 'Scribe', model: 'gpt-5.2-codex', tools })).id;
}, 120_000);

afterAll(async () => {
  await fleet?.end();
  await model?.stop();
  upstream?.closeAllConnections();
  upstream?.close();
}, 30_000);

it(
  'reaches what it may and nothing else, by the gateway beside its host, on a host that has one (S2)',
  patience,
  async () => {
    const sessions = await Promise.all([begin(), begin(), begin()]);
    const said = await Promise.all(
      sessions.map((session) =>
        run(session, 'curl -sS https://good.example/a; curl -sS -m 5 https://other.example/b; echo end'),
      ),
    );
    for (const words of said) {
      expect(words).toContain('hello from good.example');
      expect(words).not.toContain('hello from other.example');
      expect(words).toContain('end');
    }
    expect(seen).not.toContain('other.example /b');
    for (const session of sessions) {
      const where = `/v1/sessions/${session}/events?limit=1000&audience=operator`;
      const { data } = await get<Json>(api.line.url ?? '', where);
      const places = data.filter(({ type }) => type === 'sandbox.started').map((one) => one.host);
      expect(new Set(places)).toEqual(new Set([host.line.host_id]));
    }
    const [session = ''] = sessions;
    await until(async () => (await decisionsOf(session)).length >= 2, 'both are in the log');
    const decisions = await decisionsOf(session);
    expect(decisions).toContainEqual(expect.objectContaining({ decision: 'allowed', host: 'good.example' }));
    expect(decisions).toContainEqual(expect.objectContaining({ decision: 'denied', host: 'other.example' }));
  },
);

it(
  'a download goes on while its engine is killed, and what was decided is in the log once (L3)',
  patience,
  async () => {
    const session = await begin();
    const halfway = Promise.withResolvers<void>();
    onDrop = (count) => count === 10 && halfway.resolve();
    await say(session, 'curl -sS https://good.example/slow | tail -n 2; curl -sS https://good.example/next');
    await halfway.promise;
    const owner = await engineOf(session);
    expect(owner).toBeDefined();
    owner?.child.kill('SIGKILL');
    const isIdle = async () => (await eventsOf(session)).some(({ type }) => type === 'session.status_idle');
    await until(isIdle, 'the turn ends', 40_000);
    const words = await lastWords(session);
    expect(words).toContain(`drop ${drops}`);
    expect(words).toContain('the last');
    // A connection that began under the new owner.
    expect(words).toContain('hello from good.example');
    expect(seen.filter((one) => one === 'good.example /slow')).toHaveLength(1);
    const sum = async () =>
      (await decisionsOf(session)).reduce((total, one) => total + (one as Json & { count: number }).count, 0);
    await until(async () => (await sum()) >= 2, 'both connections are in the log');
    await sleep(2_500);
    expect(await sum()).toBe(2);
    engines = [...engines.filter((one) => one !== owner), await fleet.serve('engine')];
  },
);

it('a diff that another engine shows takes no ticket away from the session at work', patience, async () => {
  const repository = fleet.file('repository');
  mkdirSync(repository);
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=U', '-c', 'user.email=u@example.com', ...args], {
      cwd: repository,
    });
  git('init', '-q', '-b', 'main');
  git('commit', '-q', '--allow-empty', '-m', 'first');
  const task =
    'RUN:curl -sS https://good.example/first; sleep 8 && then curl -sS -m 10 https://good.example/second';
  const options = ['--repo', repository, '--environment', await room(), '--detach'];
  const said = await fleet.cli(api.line.url ?? '', ['run', task, ...options]);
  const session = /sesn_[0-9A-Z]{26}/.exec(said)?.[0] ?? '';
  await until(() => seen.includes('good.example /first'), 'the first command runs');
  const key = keyOf(readClusterSecret(fleet.file('secret')), apiIdentity);
  const { data } = await get<Workers>(api.line.url ?? '', '/v1/workers');
  for (const { info } of data) {
    const socket = await dialLink(parseAddress(info.engine ?? '') as Address, { identity: apiIdentity, key });
    const peer = new RpcPeer(socket, () => undefined);
    expect(await peer.ask('workspace/diff', { session })).toMatchObject({ ok: true });
    peer.close();
  }
  expect((await eventsOf(session)).filter(({ type }) => type === 'agent.tool_result')).toEqual([]);
  await until(async () => (await lastWords(session)) !== '', 'the turn ends', 40_000);
  expect(await lastWords(session)).toContain('hello from good.example');
});

it(
  'a gateway that is killed is followed by another, which the sandbox that lives on reaches',
  patience,
  async () => {
    const session = await begin();
    expect(await run(session, 'sleep 300 & echo $! > pid; curl -sS https://good.example/before')).toContain(
      'hello',
    );
    gateway.child.kill('SIGKILL');
    await gateway.ended;
    const running = run(
      session,
      'kill -0 $(cat pid) && echo still here; curl -sS -m 20 https://good.example/after',
    );
    await sleep(1_500);
    expect((await eventsOf(session)).at(-1)?.type).not.toBe('session.status_idle');
    gateway = await fleet.gateway('one', api.line.url ?? '');
    const said = await running;
    expect(said).toContain('still here');
    expect(said).toContain('hello from good.example');
  },
);

it(
  'a host’s token opens no gateway’s link, and a gateway’s is cut when its machine’s tokens are revoked (S1)',
  patience,
  async () => {
    const { data } = await get<Workers>(api.line.url ?? '', '/v1/workers');
    const to = parseAddress(data[0]?.info.engine ?? '') as Address;
    const ofHost = parseToken(await fleet.token('one')) as Token;
    await expect(dialLink(to, { ...ofHost, identity: 'gateway-one' })).rejects.toThrow();
    await expect(fleet.gateway('wrong', api.line.url ?? '', await fleet.token('wrong'))).rejects.toThrow(
      /no gateway's token/,
    );
    const other = await fleet.gateway('leaky', api.line.url ?? '');
    await until(() => other.output().includes('connected to'), 'it is connected');
    await fleet.cli(api.line.url ?? '', ['host-token', 'revoke', 'leaky']);
    await until(
      () => other.output().includes('the token of gateway-leaky is refused'),
      'no api tells it of engines',
    );
    const link = await dialLink(to, parseToken(await fleet.token('leaky', true)) as Token);
    let heard = 0;
    link.on('data', (data: Buffer) => (heard += data.length));
    await once(link, 'close');
    expect(heard).toBe(0);
    other.child.kill('SIGTERM');
    expect(await other.ended).toBe(0);
  },
);
