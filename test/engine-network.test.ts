/**
 * An engine and the gateway of its sessions: opened before the sandbox, told what the log says, heard once however often
 * it speaks (S1, S2, S4, L3). Over the real store and wire; hands and gateway are peers in memory.
 */
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import { type NetworkParts, SessionNetworks } from '../src/engine/network.ts';
import { networkPolicy, reachesNobody } from '../src/guard/network-policy.ts';
import { defaultConfig, type Networking } from '../src/protocol/environments.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import { HostAway, type SandboxSpec } from '../src/sandbox/executor.ts';
import type { SessionConfig, SessionState } from '../src/session/state.ts';
import type { Claim, StoredEvent } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, message, textsOf } from './peers/engine-room.ts';
import type { MemoryProcess } from './peers/memory-executor.ts';
import { MemoryGateway } from './peers/memory-gateway.ts';

const secret = 'ghp_theRealOneThatNobodyMaySee';
const placeholder = 'ghp_placeholder';
const bashTwice: Script = (turn) =>
  turn.toolOutputs.length < 2
    ? { toolCalls: [{ name: 'bash', arguments: { command: `step ${turn.toolOutputs.length}` } }] }
    : { text: 'done' };
const allowed = { bash: 'always_allow' } as const;
const decisions = (log: StoredEvent[]) => log.filter((e) => e.type === 'network.decision');

let room: EngineRoom;
let gateway: MemoryGateway;
let specs: SandboxSpec[];
let revoked: number;
/** Commands wait until the test lets them go. */
let running: MemoryProcess[];

const limited = (fields: Partial<Extract<Networking, { type: 'limited' }>> = {}): Networking => ({
  type: 'limited',
  allowed_hosts: ['example.com'],
  ...{ allow_mcp_servers: false, allow_package_managers: false, ...fields },
});

async function begin(networking: Networking = limited()): Promise<string> {
  room.config = { environment: { config: { ...defaultConfig, networking } } as JsonObject };
  await room.open(bashTwice);
  return room.createSession(allowed, message('go'));
}

async function command(count: number): Promise<MemoryProcess> {
  for (let tries = 0; running.length < count && tries < 2_000; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  return running[count - 1] as MemoryProcess;
}

beforeEach(() => {
  room = new EngineRoom();
  gateway = new MemoryGateway();
  specs = [];
  running = [];
  let tickets = 0;
  revoked = 0;
  room.network = {
    observeMs: 20,
    gatewayAt: () => gateway,
    policyOf: ({ config, networkAnswers }) => {
      const { networking } = (config as SessionConfig).environment.config as { networking: Networking };
      const policy = networkPolicy(networking, networkAnswers, []);
      return reachesNobody(policy) ? null : policy;
    },
    secretsOf: async () => ({
      env: { TOKEN: placeholder },
      unreachable: [],
      credentials: [{ id: 'vcrd_1', placeholder, secret, hosts: ['example.com'] }],
    }),
    mintTicket: async () => `ticket-${++tickets}`,
    revokeTicket: async () => void revoked++,
  };
  const start = room.executor.createSandbox.bind(room.executor);
  room.executor.createSandbox = (spec) => {
    specs.push(spec);
    return start(spec);
  };
  room.executor.script = (process) => void running.push(process);
});

afterEach(async () => {
  await room.close();
  expect(room.errors).toEqual([]);
});

it('a sandbox gets a ticket and placeholders, the gateway the secret, the log neither secret nor ticket (S1)', async () => {
  const session = await begin();
  (await command(1)).exit();
  (await command(2)).exit();
  const log = await room.until(session, idleAfter(1));
  const [opened] = gateway.opened;
  expect(opened?.credentials[0]?.secret).toBe(secret);
  expect(specs[0]?.env).toEqual({ TOKEN: placeholder });
  expect(specs[0]?.network).toEqual({ kind: 'gateway', ticket: opened?.ticket, authorityPem: 'PEM' });
  expect(JSON.stringify([specs, log])).not.toContain(secret);
  expect(JSON.stringify(log)).not.toContain('ticket-');
  expect(gateway.opened).toHaveLength(1);
});

it('two who want the way at once get one ticket: neither starts a sandbox with one that is worth nothing', async () => {
  await room.open(bashTwice);
  const networks = new SessionNetworks({
    ...room.network,
    store: room.store,
    onError: () => {},
  } as NetworkParts);
  const config = { environment: { config: { networking: limited() } } };
  const state = { config, networkAnswers: [] } as unknown as SessionState;
  const claim = { organization: 'o', project: 'p', stream: 'sesn_twice', fence: 1 } as Claim;
  const ways = await Promise.all([networks.ready(claim, state, null), networks.ready(claim, state, null)]);
  networks.stop();
  expect(ways[0]).toEqual(ways[1]);
  expect(gateway.opened.filter(({ session }) => session === 'sesn_twice')).toHaveLength(1);
});

it('in a fleet it goes to a host with a gateway; a lost machine is given up as a host, a gateway alone is waited for', async () => {
  await begin();
  const config = { environment: { config: { networking: limited() } } };
  const state = { config, networkAnswers: [] } as unknown as SessionState;
  const claim = { organization: 'o', project: 'p', stream: 'sesn_placed', fence: 1 } as Claim;
  const asked: (string | null)[] = [];
  const gone = new Set<string>();
  const networks = new SessionNetworks({
    ...room.network,
    store: room.store,
    onError: () => {},
    gatewayAt: (host) => {
      asked.push(host);
      return gateway;
    },
    hosts: {
      choose: () => 'one~1',
      check: (host) => {
        if (gone.has(host)) throw new HostAway(host, 5);
      },
    },
  } as NetworkParts);
  expect(await networks.ready(claim, state, null)).toMatchObject({ host: 'one~1' });
  expect(await networks.ready(claim, state, 'two~2')).not.toHaveProperty('host');
  expect(asked).toEqual(['one~1', 'two~2']);
  gateway.breakLink(true);
  await expect(networks.ready(claim, state, 'one~1')).rejects.toMatchObject({ name: 'HostAway', host: null });
  gone.add('one~1');
  await expect(networks.ready(claim, state, 'one~1')).rejects.toMatchObject({ host: 'one~1', awayMs: 5 });
  gateway.breakLink(false);
  networks.stop();
  (await command(1)).exit();
  (await command(2)).exit();
});

it('a first sandbox is asked for on the host that was chosen for its gateway', async () => {
  if (room.network) room.network.hosts = { choose: () => 'one~1', check: () => {} };
  const session = await begin();
  (await command(1)).exit();
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
  expect(specs[0]?.host).toBe('one~1');
});

it('a session that may reach nobody has no gateway', async () => {
  const session = await begin(limited({ allowed_hosts: [] }));
  (await command(1)).exit();
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
  expect(gateway.opened).toEqual([]);
  expect(specs[0]?.network).toEqual({ kind: 'none' });
});

it('what the gateway saw is in the log once, however often it says it and whoever hears it (L3)', async () => {
  const session = await begin();
  await command(1);
  gateway.see(session, { host: 'a.example' });
  gateway.see(session, { host: 'b.example' });
  await room.until(session, (log) => decisions(log).length === 2);
  await room.killAndReplace();
  await room.until(session, () => gateway.opened.length > 1);
  gateway.see(session, { host: 'c.example' });
  await room.until(session, (log) => decisions(log).length >= 3);
  (await command(1)).exit();
  (await command(2)).exit();
  const log = await room.until(session, idleAfter(1));
  expect(decisions(log).map((e) => e.public.host)).toEqual(['a.example', 'b.example', 'c.example']);
});

it('what a gateway saw while its link was broken is in the log before the next command, and not under another’s name', async () => {
  const session = await begin();
  await command(1);
  gateway.see(session, { host: 'a.example' });
  await room.until(session, (log) => decisions(log).length === 1);
  gateway.breakLink(true);
  gateway.see(session, { host: 'b.example' });
  await new Promise((resolve) => setTimeout(resolve, 100));
  gateway.breakLink(false);
  await room.until(session, (log) => decisions(log).length === 2);
  expect(gateway.opened).toHaveLength(1);
  gateway.breakLink(true);
  gateway.restart();
  gateway.breakLink(false);
  (await command(1)).exit();
  await command(2);
  gateway.see(session, { host: 'c.example' });
  const log = await room.until(session, (found) => decisions(found).length === 3);
  expect(decisions(log).map(({ actor }) => actor)).toEqual([
    ...['gateway:generation-1', 'gateway:generation-1', 'gateway:generation-2'],
  ]);
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
});

it('an answer about a host reaches the gateway while the command that asked for it still runs', async () => {
  const session = await begin(limited({ unknown_hosts: 'ask' }));
  await command(1);
  gateway.see(session, { decision: 'asked', host: 'new.example', port: 8443 });
  await room.until(session, (log) => decisions(log).length === 1);
  await room.send(
    session,
    event('user.network_access', { host: 'new.example', port: 8443, result: 'allow' }),
  );
  await room.until(session, () => gateway.opened.length === 2);
  expect(gateway.opened[1]?.policy.rules.at(-1)).toMatchObject({
    ...{ id: 'answered:new.example', effect: 'allow', hosts: ['new.example'], ports: [8443] },
  });
  (await command(1)).exit();
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
});

it('a gateway that died is told everything again before the next command', async () => {
  const session = await begin();
  const first = await command(1);
  gateway.restart();
  first.exit();
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
  expect(gateway.opened).toHaveLength(2);
  const presented = specs.map(({ network }) => network?.kind === 'gateway' && network.ticket);
  expect(presented.at(-1)).toBe(gateway.opened[1]?.ticket);
  expect(gateway.opened[1]?.ticket).not.toBe(gateway.opened[0]?.ticket);
});

it('a gateway that refuses costs the call, in words; nothing is started without it (S4)', async () => {
  gateway.refusal = { refused: 'invalid', message: 'rules[0].hosts[0]: not a host' };
  const session = await begin();
  const log = await room.until(session, idleAfter(1));
  expect(textsOf(log, 'agent.tool_result')[0]).toContain('rules[0].hosts[0]: not a host');
  expect(running).toEqual([]);
});

it('a gateway that is away is waited for, as a host would be', async () => {
  gateway.isAway = true;
  room.onError = () => {};
  const session = await begin();
  await room.until(session, () => room.peer.requests.length >= 1);
  gateway.isAway = false;
  (await command(1)).exit();
  (await command(2)).exit();
  const log = await room.until(session, idleAfter(1));
  expect(textsOf(log, 'agent.tool_result')).toHaveLength(2);
});

it('a session that was archived has no way out any more: ticket revoked, secrets forgotten', async () => {
  const session = await begin();
  (await command(1)).exit();
  (await command(2)).exit();
  await room.until(session, idleAfter(1));
  expect(revoked).toBe(0);
  await room.send(session, event('session.archived', {}));
  await room.until(session, () => revoked === 1);
  const asked = () => gateway.observe({ session, acknowledge: 0, waitMs: 0 });
  for (let tries = 0; Array.isArray(await asked()) && tries < 1_000; tries++)
    await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await asked()).toMatchObject({ refused: 'unknown_session' });
});
