/**
 * A session on the network, whole: real server, engine, host, sandbox, gateway process; hosts on loopback that the operator
 * has named. Default deny, and what was let through is in the log (S2). The model is the rehearsal and runs what it is told.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { release, tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { createAuthority } from '../src/gateway/authority.ts';
import { type RunningServer, startServer } from '../src/main.ts';
import { findPrograms } from '../src/sandbox/host/programs.ts';
import { processesWith } from './escapes/rig.ts';
import { GitServer } from './peers/git-server.ts';
import { publish } from './peers/npm-registry.ts';

function script(turn: Turn): Reply {
  if (turn.lastToolOutput) return { text: turn.lastToolOutput.text };
  return { toolCalls: [{ name: 'bash', arguments: { command: turn.userText } }] };
}

let directory: string;
let model: Rehearsal;
let server: RunningServer;
let upstream: Server;
let agentId: string;
let git: GitServer;
const npm = publish('https://registry.example', 'tiny', 'module.exports = "tiny works";');
let vaultId: string;
/** What nobody but the gateway and the git server may ever see. */
const password = `ghp_${randomBytes(18).toString('hex')}`;
/** What the world saw: method, host and path of each request. */
const seen: string[] = [];

/** What this test reads of answers and events. */
type Json = { id: string; type: string; decision?: string; data: Json[]; content: { text: string }[] };

async function api(method: string, where: string, body?: unknown): Promise<Json> {
  const response = await fetch(new URL(where, server.url), {
    method,
    headers: { authorization: `Bearer ${server.apiKey}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = (await response.json()) as Json;
  if (!response.ok) throw new Error(`${method} ${where}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

async function environment(networking: object, config: object = {}): Promise<string> {
  const name = `room ${Math.random()}`;
  const body = { name, config: { type: 'cloud', networking, ...config } };
  return (await api('POST', '/v1/environments', body)).id;
}

async function session(networking: object, more: object = {}): Promise<string> {
  const made = { agent: agentId, environment_id: await environment(networking), ...more };
  return (await api('POST', '/v1/sessions', made)).id;
}

async function events(id: string): Promise<Json[]> {
  return (await api('GET', `/v1/sessions/${id}/events?limit=1000`)).data;
}

/** Sends a command and gives what it printed. */
async function run(id: string, command: string): Promise<string> {
  const before = (await events(id)).filter((one) => one.type === 'session.status_idle').length;
  await api('POST', `/v1/sessions/${id}/events`, {
    events: [{ type: 'user.message', content: [{ type: 'text', text: command }] }],
  });
  for (let tries = 0; tries < 600; tries++) {
    const all = await events(id);
    if (all.filter((one) => one.type === 'session.status_idle').length > before)
      return all.findLast((one) => one.type === 'agent.message')?.content[0]?.text ?? '';
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error('the turn did not end');
}

async function decisions(id: string, atLeast: number): Promise<Json[]> {
  for (let tries = 0; ; tries++) {
    const found = (await events(id)).filter((one) => one.type === 'network.decision');
    if (found.length >= atLeast || tries > 100) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-network-'));
  const authority = await createAuthority('the world');
  await writeFile(path.join(directory, 'world.pem'), authority.pem);
  upstream = createServer(
    {
      SNICallback: (name, done) =>
        void authority.contextFor(name).then((context) => done(null, context), done),
    },
    (request, response) => {
      const published = npm.answers.get(request.url ?? '');
      if (request.headers.host === 'registry.example' && published) return void response.end(published);
      seen.push(`${request.method} ${request.headers.host} ${request.url}`);
      response.end(`hello from ${request.headers.host}\n`);
    },
  );
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  const { port } = upstream.address() as AddressInfo;
  git = await GitServer.start(authority, password);
  model = await startRehearsal({ script, port: 0 });
  server = await startServer({
    dataDir: path.join(directory, 'data'),
    port: 0,
    model: { baseURL: model.url, apiKey: 'sk-rehearsal' },
    network: {
      pins: [
        ...['good.example', 'other.example', 'new.example', 'registry.example'].map(
          (name) => `${name}=127.0.0.1:${port}`,
        ),
        `git.example=127.0.0.1:${git.port}`,
      ],
      authoritiesFile: path.join(directory, 'world.pem'),
    },
  });
  const tools = [
    { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: 'always_allow' } } },
  ];
  agentId = (await api('POST', '/v1/agents', { name: 'Scribe', model: 'gpt-5.2-codex', tools })).id;
  vaultId = (await api('POST', '/v1/vaults', { display_name: 'git' })).id;
  await api('POST', `/v1/vaults/${vaultId}/credentials`, {
    auth: {
      ...{ type: 'environment_variable', secret_name: 'GIT_TOKEN', secret_value: password },
      networking: { type: 'limited', allowed_hosts: ['git.example'] },
    },
  });
}, 120_000);

afterAll(async () => {
  await server?.close();
  await model?.stop();
  upstream?.close();
  await git?.close();
  await rm(directory, { recursive: true, force: true });
});

it('an allowed host is reached without proxy variables, every other is not, and both are in the log (S2)', async () => {
  const id = await session({ type: 'limited', allowed_hosts: ['good.example'] });
  const said = await run(
    id,
    'env | grep -i proxy; curl -sS https://good.example/a; curl -sS -m 5 https://other.example/b; ' +
      'curl -sS -m 5 https://93.184.216.34/; curl -sS -m 5 http://169.254.169.254/latest/; echo end',
  );
  expect(said).toContain('hello from good.example');
  expect(said).not.toContain('hello from other.example');
  expect(said).toContain('end');
  expect(seen).toContain('GET good.example /a');
  expect(seen.join()).not.toContain('other.example');
  const all = await decisions(id, 4);
  expect(all).toContainEqual(
    expect.objectContaining({
      decision: 'allowed',
      host: 'good.example',
      port: 443,
      rule: 'allowed_hosts[0]',
    }),
  );
  expect(all).toContainEqual(expect.objectContaining({ decision: 'denied', host: 'other.example' }));
  expect(all).toContainEqual(expect.objectContaining({ decision: 'denied', host: '169.254.169.254' }));
});

it.skipIf(findPrograms().runsc === null)(
  'an environment with gVisor reaches what it may through the same gateway, and never gets a weaker sandbox',
  async () => {
    const networking = { type: 'limited', allowed_hosts: ['good.example'] };
    const room = await environment(networking, { minimum_isolation: 'gvisor' });
    const { id } = await api('POST', '/v1/sessions', { agent: agentId, environment_id: room });
    const said = await run(
      id,
      'curl -sS https://good.example/g; curl -sS -m 5 https://other.example/; uname -r',
    );
    expect(said).toContain('hello from good.example');
    expect(said).not.toContain('hello from other.example');
    expect(said).not.toContain(release());
    const started = (await events(id)).find((one) => one.type === 'sandbox.started');
    expect(started).toMatchObject({ isolation: 'gvisor', network: 'gateway' });
  },
);

it('a private git remote works with a secret that is nowhere but at the gateway and the server (S1)', async () => {
  const rules = [
    { effect: 'allow', hosts: ['git.example'], methods: ['GET', 'POST'], paths: ['/repo.git/**'] },
    { effect: 'deny', hosts: ['git.example'], paths: ['/repo.git/git-receive-pack'] },
  ];
  const id = await session({ type: 'limited', rules }, { vault_ids: [vaultId] });
  const said = await run(
    id,
    [
      'echo "token=$GIT_TOKEN"',
      'git clone -q "https://agent:$GIT_TOKEN@git.example/repo.git" cloned && git -C cloned log --oneline',
      'cd cloned && git -c user.name=a -c user.email=a@b.example commit -q --allow-empty -m mine',
      'git push -q origin HEAD:refs/heads/pushed; echo "push: $?"',
      'curl -sS -m 5 "https://git.example/other?$GIT_TOKEN" -o /dev/null -w "%{http_code}\n"',
      'env; cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n"',
    ].join('; '),
  );
  expect(said).toMatch(/token=ghp_\w{36}\n/);
  expect(said).toContain('the private one');
  expect(said).toMatch(/push: [1-9]/);
  expect(said).not.toContain(password);
  expect(git.seen.some((one) => one.password === password)).toBe(true);
  expect(git.seen.some(({ url }) => url.includes('receive-pack') && !url.includes('info/refs'))).toBe(false);
  expect(git.branches()).not.toContain('pushed');
  const all = await events(id);
  expect(JSON.stringify(all)).not.toContain(password);
  expect(await decisions(id, 2)).toContainEqual(
    expect.objectContaining({ decision: 'allowed', host: 'git.example', rule: 'rules[0]' }),
  );
});

it('npm ci and a private git remote work under default deny, by two rules and a secret', {
  skip: !existsSync('/usr/bin/npm'),
}, async () => {
  const rules = ['git.example', 'registry.example'].map((host) => ({ effect: 'allow', hosts: [host] }));
  const id = await session({ type: 'limited', rules }, { vault_ids: [vaultId] });
  const said = await run(
    id,
    [
      'git clone -q "https://agent:$GIT_TOKEN@git.example/repo.git" project && cd project',
      `printf %s '${npm.project.manifest}' > package.json; printf %s '${npm.project.lock}' > package-lock.json`,
      'npm ci --registry https://registry.example --no-audit --no-fund --no-update-notifier',
      'node -p "require(\'tiny\')"',
      'git add package.json && git -c user.name=a -c user.email=a@b.example commit -qm deps',
      'git push -q origin HEAD:refs/heads/from-the-agent; echo "push: $?"',
    ].join('; '),
  );
  expect(said).toContain('tiny works');
  expect(said).toContain('push: 0');
  expect(git.branches()).toContain('from-the-agent');
  expect((await decisions(id, 2)).filter((one) => one.decision !== 'allowed')).toEqual([]);
});

it('whoever has all the rights of the host cannot read the gateway’s memory (S1)', async () => {
  await run(await session({ type: 'limited', allowed_hosts: ['good.example'] }), 'true');
  const folder = path.join(directory, 'data');
  const pid = (name: string) => {
    const command = `ps -eo pid,args | grep -v grep | grep '${name}' | grep '${folder}' | awk '{print $1}'`;
    return execFileSync('bash', ['-c', command], { encoding: 'utf8' }).trim().split('\n')[0] ?? '';
  };
  const gateway = pid('gateway/process/main');
  expect(Number(gateway)).toBeGreaterThan(1);
  const isRoot = process.getuid?.() === 0;
  const bounding = (of: string) =>
    /CapBnd:\s*(\w+)/.exec(readFileSync(`/proc/${of}/status`, 'utf8'))?.[1] ?? '';
  if (isRoot) expect(BigInt(`0x${bounding(pid('sandbox/host/main'))}`) & (1n << 19n)).toBe(0n);
  const launch = path.join(import.meta.dirname, '..', 'native', 'build', 'launch');
  const read = (...confined: string[]) => {
    // Its memory and its descriptors; opening is what the right is asked for.
    const attempt = `exec 3</proc/${gateway}/mem; ls /proc/${gateway}/fd >/dev/null`;
    return spawnSync(
      confined[0] ?? 'bash',
      [...confined.slice(1), ...(confined[0] ? ['/bin/bash'] : []), '-c', attempt],
      {
        encoding: 'utf8',
      },
    );
  };
  expect(read(launch, '--confined').stderr).toContain('Permission denied');
  // Of root, nothing but that right makes the difference; of its own user, that the gateway hides.
  if (isRoot) expect(read().stderr).toBe('');
  else expect(read().stderr).toContain('Permission denied');
});

it('an unknown host is asked of a person; the answer lets the waiting command through', async () => {
  const id = await session({ type: 'limited', unknown_hosts: 'ask' });
  const running = run(id, 'curl -sS https://new.example/asked');
  const asked = async () => (await decisions(id, 1)).find((one) => one.decision === 'asked');
  expect(await asked()).toMatchObject({ host: 'new.example', port: 443 });
  const answer = { type: 'user.network_access', host: 'new.example', result: 'allow' };
  await api('POST', `/v1/sessions/${id}/events`, { events: [answer] });
  expect(await running).toContain('hello from new.example');
});

it('a gateway that is killed is followed by another, which the sandbox that lives on reaches and trusts (S2)', async () => {
  const id = await session({ type: 'limited', allowed_hosts: ['good.example'] });
  expect(await run(id, 'sleep 300 & echo $! > pid; curl -sS https://good.example/before')).toContain('hello');
  const ours = processesWith(directory);
  const gateways = processesWith('gateway/process/main').filter((pid) => ours.includes(pid));
  expect(gateways).toHaveLength(1);
  process.kill(gateways[0] as number, 'SIGKILL');
  const said = await run(
    id,
    'kill -0 $(cat pid) && echo still here; curl -sS -m 20 https://good.example/after',
  );
  expect(said).toContain('still here');
  expect(said).toContain('hello from good.example');
});
