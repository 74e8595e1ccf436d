// Apis, engines and hosts as processes of their own, on one real Postgres, with real sandboxes; only the model is played.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../rehearsal/peer.ts';
import type { Reply, Turn } from '../rehearsal/script.ts';
import { parseToken, type Token } from '../src/link/secret.ts';
import { type Address, dialLink, parseAddress } from '../src/link/tls.ts';
import { FleetProcesses, fleetKey, get, type Running, until } from './peers/fleet-processes.ts';
import { LoadBalancer } from './peers/load-balancer.ts';

const patience = { timeout: 45_000 };

/** The task's last words say what the model does. */
function script(turn: Turn): Reply {
  const { toolOutputs: outputs, userText } = turn;
  const bash = (command: string): Reply => ({ toolCalls: [{ name: 'bash', arguments: { command } }] });
  const said = outputs.map(({ text }) => text).join(' ');
  if (userText.endsWith('long'))
    return outputs.length === 0
      ? bash('echo once >> ran.txt; sleep 3; wc -l < ran.txt')
      : { text: `lines ${said}` };
  if (userText.endsWith('speak')) return { text: 'word '.repeat(60), deltaChars: 5, eventDelayMs: 30 };
  if (userText.endsWith('doomed')) {
    if (outputs.length === 0) return bash('echo before > c.txt; sleep 60');
    return outputs.length === 1 ? bash('ls') : { text: `saw ${said}` };
  }
  if (userText.endsWith('twice'))
    return outputs.length < 2 ? bash(`echo ${outputs.length} >> a.txt; cat a.txt`) : { text: `saw ${said}` };
  return outputs.length === 0 ? bash("printf 'new\\n' > b.txt; echo made") : { text: 'Done.' };
}

let model: Rehearsal;
let fleet: FleetProcesses;
let repository: string;
let api: Running;
let engines: Running[];
let hosts: Running[];
const urlOf = (running: Running): string => running.line.url ?? '';

type Host = { id: string; status: string; sandboxes: number };
const hostsAt = async (url: string): Promise<Host[]> => (await get<{ data: Host[] }>(url, '/v1/hosts')).data;
const connected = async (url: string): Promise<number> =>
  (await hostsAt(url)).filter(({ status }) => status === 'connected').length;

beforeAll(async () => {
  model = await startRehearsal({ script });
  fleet = await FleetProcesses.start(model.url);
  repository = path.join(fleet.folder, 'repository');
  mkdirSync(repository);
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=U', '-c', 'user.email=u@example.com', ...args], {
      cwd: repository,
    });
  git('init', '-q', '-b', 'main');
  writeFileSync(path.join(repository, 'a.txt'), 'one\n');
  git('add', '-A');
  git('commit', '-q', '-m', 'first');
  api = await fleet.serve('api');
  engines = await Promise.all([fleet.serve('engine'), fleet.serve('engine')]);
  hosts = [await fleet.host('one', urlOf(api))];
  await until(async () => (await connected(urlOf(api))) === 1, 'the host is connected');
}, 60_000);

afterAll(async () => {
  await fleet?.end();
  await model?.stop();
}, 30_000);

async function begin(task: string, url = urlOf(api)): Promise<string> {
  const said = await fleet.cli(url, ['run', task, '--repo', repository, '--detach']);
  const session = /sesn_[0-9A-Z]{26}/.exec(said)?.[0];
  if (session === undefined) throw new Error(`no session in ${said}`);
  return session;
}

type Seen = { id: string; type: string; seq: number | null; text: string };

/** Follows a session as a client does: from the first event, coming back with Last-Event-ID whenever it is cut. */
function follow(
  url: string,
  session: string,
  previews = false,
): { seen: Seen[]; frames: string[]; stop(): void } {
  const seen: Seen[] = [];
  const frames: string[] = [];
  const ending = new AbortController();
  const query = previews ? '?event_deltas[]=agent.message' : '';
  void (async () => {
    for (let last = 0; !ending.signal.aborted; await sleep(50)) {
      try {
        const headers = { authorization: `Bearer ${fleetKey}`, 'last-event-id': String(last) };
        const place = `${url}/v1/sessions/${session}/events/stream${query}`;
        const response = await fetch(place, { headers, signal: ending.signal });
        let text = '';
        for await (const chunk of response.body ?? []) {
          text += Buffer.from(chunk).toString();
          for (let at = text.indexOf('\n\n'); at !== -1; at = text.indexOf('\n\n')) {
            const frame = text.slice(0, at);
            text = text.slice(at + 2);
            const id = /^id: (\d+)$/m.exec(frame)?.[1];
            const data = /^data: (.*)$/m.exec(frame)?.[1];
            if (data === undefined) continue;
            const event = JSON.parse(data) as { id?: string; type: string };
            if (event.type.startsWith('event_')) frames.push(data);
            else seen.push({ id: event.id ?? '', type: event.type, seq: id ? Number(id) : null, text: data });
            if (id !== undefined) last = Number(id);
          }
        }
      } catch {
        // Cut off: as in life.
      }
    }
  })();
  return { seen, frames, stop: () => ending.abort() };
}

type Event = { id: string; type: string; content?: { text?: string }[] };
const eventsOf = async (session: string, more = ''): Promise<Event[]> =>
  (await get<{ data: Event[] }>(urlOf(api), `/v1/sessions/${session}/events?limit=1000&order=asc${more}`))
    .data;
/** Of all events, also those that no client is shown. */
const typesOf = async (session: string): Promise<string[]> =>
  (await fleet.query<{ type: string }>('SELECT type FROM events WHERE stream = $1', [session])).map(
    ({ type }) => type,
  );
const statusOf = async (session: string): Promise<string> =>
  (await get<{ status: string }>(urlOf(api), `/v1/sessions/${session}`)).status;
const idle = (session: string) =>
  until(async () => (await statusOf(session)) === 'idle', `${session} is idle`);

/** Every public event once and in order; a queued input is sent twice by the protocol, so repeats are of inputs only. */
async function expectWhole(seen: Seen[], session: string): Promise<void> {
  const events = (await eventsOf(session)).map(({ id }) => id);
  const last = events.at(-1);
  await until(() => seen.some(({ id }) => id === last), 'the last event is streamed');
  const heard = seen.filter(({ type }) => !type.startsWith('user.')).map(({ id }) => id);
  expect(new Set(heard).size).toBe(heard.length);
  expect(events.filter((id) => !seen.some((one) => one.id === id))).toEqual([]);
  const seqs = seen.flatMap(({ seq }) => seq ?? []);
  expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
}

const ownerOf = async (session: string): Promise<number> => {
  const rows = await fleet.query<{ owner: string | null; info: string | null }>(
    'SELECT s.owner, w.info FROM streams s LEFT JOIN workers w ON w.worker = s.owner WHERE s.stream = $1',
    [session],
  );
  return Number((JSON.parse(rows[0]?.info ?? '{}') as { pid?: number }).pid ?? 0);
};

describe('a fleet', () => {
  it(
    'runs a session: api, engine and host are three processes, and the api shows the diff',
    patience,
    async () => {
      const session = await begin('edit');
      await idle(session);
      const diff = await get<{ diff: string }>(urlOf(api), `/v1/sessions/${session}/diff`);
      expect(diff.diff).toContain('b.txt');
      const started = (await eventsOf(session, '&audience=operator')).find(
        ({ type }) => type === 'sandbox.started',
      );
      expect(started).toMatchObject({ host: hosts[0]?.line.host_id });
      const bundle = await fetch(`${urlOf(api)}/v1/sessions/${session}/delivery`, {
        method: 'POST',
        headers: { authorization: `Bearer ${fleetKey}`, 'content-type': 'application/json' },
        body: '{}',
      });
      expect(bundle.status).toBe(200);
      expect(await bundle.json()).toMatchObject({ head: expect.stringMatching(/^[0-9a-f]{40}$/) });
      const workers = await get<{ data: { info: { roles?: string[] } }[] }>(urlOf(api), '/v1/workers');
      expect(workers.data.map(({ info }) => info.roles)).toEqual([['engine'], ['engine']]);
      expect(await (await fetch(`${urlOf(api)}/readyz`)).json()).toMatchObject({
        ok: true,
        hosts_connected: 1,
      });
    },
  );

  it('shows in an api without an engine what the model is saying', patience, async () => {
    const session = await begin('speak');
    const client = follow(urlOf(api), session, true);
    await idle(session);
    await expectWhole(client.seen, session);
    client.stop();
    expect(client.frames.length).toBeGreaterThan(3);
    expect(client.frames.at(-1)).toContain('word');
  });

  it(
    'goes on when the engine is killed in a command: the same command, once, and no gap for a client',
    patience,
    async () => {
      const session = await begin('long');
      const client = follow(urlOf(api), session);
      await until(() => client.seen.some(({ type }) => type === 'agent.tool_use'), 'the command is called');
      await until(async () => (await typesOf(session)).includes('intent'), 'it is intended');
      await sleep(700);
      const owner = await ownerOf(session);
      const victim = engines.find(({ child }) => child.pid === owner);
      expect(victim).toBeDefined();
      victim?.child.kill('SIGKILL');
      const killedAt = Date.now();
      await until(async () => ![0, owner].includes(await ownerOf(session)), 'the other takes over');
      const tookMs = Date.now() - killedAt;
      await idle(session);
      await expectWhole(client.seen, session);
      client.stop();
      expect(client.seen.find(({ type }) => type === 'agent.message')?.text).toContain('lines 1');
      expect(tookMs).toBeLessThan(3_000);
      engines = [...engines.filter((one) => one !== victim), await fleet.serve('engine')];
    },
  );

  it('refuses a host with a token of another cluster, and one that is none', patience, async () => {
    const before = await connected(urlOf(api));
    const token = await fleet.token('one');
    const wrong = `${token.slice(0, -4)}AAAA`;
    const host = await fleet.host('wrong', urlOf(api), wrong);
    await until(() => host.output().includes('refused'), 'it is refused');
    await expect(fleet.host('none', urlOf(api), 'no token')).rejects.toThrow(/holds no token/);
    const bare = await fetch(`${urlOf(api)}/v1/hosts/join`, { method: 'POST' });
    expect(bare.status).toBe(401);
    host.child.kill('SIGTERM');
    expect(await host.ended).toBe(0);
    expect(await connected(urlOf(api))).toBe(before);
  });

  it('cuts off a host whose token is revoked, and lets nobody in with it again', patience, async () => {
    const before = await connected(urlOf(api));
    const host = await fleet.host('leaky', urlOf(api));
    const other = await fleet.host('tight', urlOf(api));
    await until(async () => (await connected(urlOf(api))) === before + 2, 'both are connected');
    expect(await fleet.cli(urlOf(api), ['host-token', 'list'])).toContain(
      `leaky  in_use  ${host.line.host_id}`,
    );
    await expect(fleet.cli(urlOf(api), ['host-token', 'revoke', 'No Name'])).rejects.toThrow(
      /no name of a host token/,
    );
    await fleet.cli(urlOf(api), ['host-token', 'revoke', 'leaky', '--reason', 'left on a train']);
    await until(async () => (await connected(urlOf(api))) === before + 1, 'it is cut off by every engine');
    await until(
      () => host.output().includes('the token of host-leaky is refused'),
      'no api tells it of engines',
    );
    const [first] = (await get<{ data: { info: { engine?: string } }[] }>(urlOf(api), '/v1/workers')).data;
    const link = await dialLink(
      parseAddress(first?.info.engine ?? '') as Address,
      parseToken(await fleet.token('leaky')) as Token,
    );
    await once(link, 'close');
    expect(await connected(urlOf(api))).toBe(before + 1);
    expect(await fleet.cli(urlOf(api), ['host-token', 'list'])).toMatch(
      /leaky {2}revoked {2}\S+ {2}left on a train/,
    );
    for (const one of [host, other]) {
      one.child.kill('SIGTERM');
      expect(await one.ended).toBe(0);
    }
  });

  it(
    'is upgraded under a client that follows through a load balancer and notices nothing',
    patience,
    async () => {
      const balancer = await LoadBalancer.start();
      const old = await fleet.serve('api,engine');
      balancer.setBackends([urlOf(old)]);
      const session = await begin('long', balancer.url);
      const client = follow(balancer.url, session);
      await until(() => client.seen.some(({ type }) => type === 'agent.tool_use'), 'the command is called');
      const next = await fleet.serve('api,engine');
      balancer.setBackends([urlOf(next)]);
      old.child.kill('SIGTERM');
      expect(await old.ended).toBe(0);
      await idle(session);
      await expectWhole(client.seen, session);
      client.stop();
      expect(client.seen.find(({ type }) => type === 'agent.message')?.text).toContain('lines 1');
      next.child.kill('SIGTERM');
      expect(await next.ended).toBe(0);
      await balancer.stop();
    },
  );

  it('lets a model finish its sentence when an engine is drained', patience, async () => {
    const session = await begin('speak');
    await until(async () => (await typesOf(session)).includes('model.intent'), 'the model is asked');
    const owner = await ownerOf(session);
    const drained = engines.find(({ child }) => child.pid === owner);
    drained?.child.kill('SIGTERM');
    expect(await drained?.ended).toBe(0);
    engines = engines.filter((one) => one !== drained);
    await idle(session);
    expect(await typesOf(session)).not.toContain('model.failed');
    engines.push(await fleet.serve('engine'));
  });

  it('spreads sessions over hosts, and keeps each on its own', patience, async () => {
    hosts.push(await fleet.host('two', urlOf(api)));
    await until(async () => (await connected(urlOf(api))) === 2, 'both are connected');
    const sessions = await Promise.all([begin('twice'), begin('twice'), begin('twice'), begin('twice')]);
    for (const session of sessions) await idle(session);
    const diskOf = (session: string) =>
      ['one', 'two'].filter((name) =>
        existsSync(path.join(fleet.file(name), 'sessions', session, 'journal')),
      );
    const places = sessions.map(diskOf);
    expect(places.every((place) => place.length === 1)).toBe(true);
    // The fewest sandboxes run on the new one; sessions that were there before stay where they were.
    expect(places.flat()).toContain('two');
    expect(readdirSync(path.join(fleet.file('one'), 'sessions')).length).toBeGreaterThan(2);
    for (const session of sessions) {
      const [place = ''] = diskOf(session);
      const file = path.join(fleet.file(place), 'sessions', session, 'workspace');
      const copies = readdirSync(file, { recursive: true }).filter((name) => String(name).endsWith('a.txt'));
      expect(readFileSync(path.join(file, String(copies[0])), 'utf8')).toBe('one\n0\n1\n');
    }
  });

  it('goes on elsewhere when a machine is declared lost, and says so to everybody', patience, async () => {
    const session = await begin('doomed');
    const at = (name: string) => path.join(fleet.file(name), 'sessions', session, 'journal');
    const places = ['one', 'two'];
    await until(() => places.some((name) => existsSync(at(name))), 'it has a place');
    await until(async () => (await typesOf(session)).includes('sandbox.ready'), 'it is laid out');
    await sleep(500);
    const place = places.findIndex((name) => existsSync(at(name)));
    const id = hosts[place]?.line.host_id ?? '';
    await expect(fleet.cli(urlOf(api), ['host-lost', id])).rejects.toThrow(/connected/);
    hosts[place]?.child.kill('SIGKILL');
    await until(async () => (await connected(urlOf(api))) === 1, 'the machine is gone');
    await fleet.cli(urlOf(api), ['host-lost', id, '--reason', 'burnt']);
    await idle(session);
    expect(existsSync(at(places[1 - place] ?? ''))).toBe(true);
    const events = await eventsOf(session);
    expect(events.find(({ type }) => type === 'workspace_lost')).toMatchObject({ host: id });
    const results = events.filter(({ type }) => type === 'agent.tool_result');
    expect(results).toMatchObject([{ in_doubt: true, is_error: true }, { is_error: false }]);
    const text = events.filter(({ type }) => type === 'agent.message').at(-1)?.content?.[0]?.text ?? '';
    expect(text).toContain('is lost');
    expect(text).toContain('a.txt');
    expect(text).not.toContain('c.txt');
    const back = await fleet.host(places[place] ?? '', urlOf(api));
    await until(() => back.output().includes('connection to'), 'it is turned away');
    expect(await hostsAt(urlOf(api))).toContainEqual(expect.objectContaining({ id, status: 'lost' }));
  });
});
