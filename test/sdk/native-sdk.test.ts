/**
 * The published @anthropic-ai/sdk, unchanged, over a real socket, against a whole server: api, engine, store, host and
 * sandbox, with the rehearsal as the model. What it proves is that a user of the hosted service changes one base URL.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Anthropic, { toFile } from '@anthropic-ai/sdk';
import type { BetaManagedAgentsStreamSessionEvents as StreamEvent } from '@anthropic-ai/sdk/resources/beta/sessions/events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Rehearsal } from '../../rehearsal/peer.ts';
import { startRehearsal } from '../../rehearsal/peer.ts';
import type { Reply, Turn } from '../../rehearsal/script.ts';
import type { RunningServer } from '../../src/main.ts';
import { startServer } from '../../src/main.ts';

/** `run: <command>` runs it, `legal: <question>` asks the client, `long:` takes its time; anything else is repeated. */
function script(turn: Turn): Reply {
  if (turn.lastToolOutput) return { text: `The tool said: ${turn.lastToolOutput.text}` };
  const [verb, ...rest] = turn.userText.split(': ');
  const about = rest.join(': ');
  if (verb === 'run') return { toolCalls: [{ name: 'bash', arguments: { command: about } }] };
  if (verb === 'legal') return { toolCalls: [{ name: 'ask_legal', arguments: { question: about } }] };
  if (verb === 'long') return { text: 'x'.repeat(4000), eventDelayMs: 50 };
  return { reasoning: 'Hm.', text: `You said: ${turn.userText}` };
}

let directory: string;
let model: Rehearsal;
let server: RunningServer;
let client: Anthropic;
let environmentId: string;

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-sdk-'));
  model = await startRehearsal({ script, port: 0 });
  server = await startServer({
    dataDir: directory,
    port: 0,
    model: { baseURL: model.url, apiKey: 'sk-rehearsal' },
  });
  client = new Anthropic({ baseURL: server.url, apiKey: server.apiKey, maxRetries: 0 });
  const environment = await client.beta.environments.create({ name: 'room', config: { type: 'cloud' } });
  environmentId = environment.id;
}, 120_000);

afterAll(async () => {
  await server?.close();
  await model?.stop();
  await rm(directory, { recursive: true, force: true });
});

type Tools = NonNullable<Anthropic.Beta.AgentCreateParams['tools']>;

const bash = (policy: 'always_allow' | 'always_ask'): Tools => [
  { type: 'agent_toolset_20260401', default_config: { permission_policy: { type: policy } } },
];

async function makeSession(tools: Tools = []) {
  const agent = await client.beta.agents.create({ name: 'Scribe', model: 'gpt-5.2-codex', tools });
  return client.beta.sessions.create({ agent: agent.id, environment_id: environmentId });
}

const user = (text: string) => ({
  type: 'user.message' as const,
  content: [{ type: 'text' as const, text }],
});

/** Opens the stream, sends, and collects until the session is idle, as the hosted documentation tells clients to. */
async function turn(
  session: string,
  events: Anthropic.Beta.Sessions.EventSendParams['events'],
  options: Anthropic.Beta.Sessions.EventStreamParams = {},
): Promise<StreamEvent[]> {
  const stream = await client.beta.sessions.events.stream(session, options);
  await client.beta.sessions.events.send(session, { events });
  const seen: StreamEvent[] = [];
  for await (const event of stream) {
    seen.push(event);
    if (event.type === 'session.status_idle' || event.type === 'session.status_terminated') break;
  }
  return seen;
}

const textsOf = (events: { type: string }[]): string[] =>
  events.flatMap((event) =>
    event.type === 'agent.message'
      ? (event as Anthropic.Beta.Sessions.BetaManagedAgentsAgentMessageEvent).content.map((block) =>
          block.type === 'text' ? block.text : '',
        )
      : [],
  );

function stopReason(events: StreamEvent[]) {
  const last = events.at(-1);
  if (last?.type !== 'session.status_idle') throw new Error(`not idle but ${last?.type}`);
  return last.stop_reason;
}

describe('agents, environments and files through the SDK', () => {
  it('create, update by version, list and archive', async () => {
    const agent = await client.beta.agents.create({
      name: 'A',
      model: 'gpt-5.2-codex',
      metadata: { a: '1' },
    });
    const next = await client.beta.agents.update(agent.id, { version: 1, system: 'Be brief.' });
    expect([next.version, next.system, next.metadata]).toEqual([2, 'Be brief.', { a: '1' }]);
    const stale = client.beta.agents.update(agent.id, { version: 1, name: 'B' });
    await expect(stale).rejects.toBeInstanceOf(Anthropic.ConflictError);
    const versions: number[] = [];
    for await (const one of client.beta.agents.versions.list(agent.id, { limit: 1 }))
      versions.push(one.version);
    expect(versions).toEqual([2, 1]);
    expect((await client.beta.agents.retrieve(agent.id, { version: 1 })).system).toBeNull();
    expect((await client.beta.agents.archive(agent.id)).archived_at).toEqual(expect.any(String));
    const ids: string[] = [];
    for await (const one of client.beta.agents.list({ limit: 2, include_archived: true })) ids.push(one.id);
    expect(ids).toContain(agent.id);
  });

  it('get errors of the right class, code and request id', async () => {
    const missing = await client.beta.agents.retrieve('agent_none').catch((error: unknown) => error);
    expect(missing).toBeInstanceOf(Anthropic.NotFoundError);
    expect((missing as InstanceType<typeof Anthropic.NotFoundError>).requestID).toMatch(/^req_/);
    const environment = await client.beta.environments.create({ name: 'brief' });
    await client.beta.environments.archive(environment.id);
    const archived = await client.beta.environments
      .update(environment.id, { name: 'x' })
      .catch((error: unknown) => error);
    expect(archived).toMatchObject({ status: 400, errorCode: 'environment_archived' });
    const stranger = new Anthropic({ baseURL: server.url, apiKey: 'wrong', maxRetries: 0 });
    await expect(stranger.beta.agents.list()).rejects.toBeInstanceOf(Anthropic.AuthenticationError);
    expect(await client.beta.environments.delete(environment.id)).toMatchObject({
      type: 'environment_deleted',
    });
  });

  it('upload, list and download', async () => {
    const content = Buffer.alloc(300_000, 'scriptorium ');
    const uploaded = await client.beta.files.upload({
      file: await toFile(content, 'notes.txt', { type: 'text/plain' }),
    });
    expect(uploaded).toMatchObject({ filename: 'notes.txt', size_bytes: 300_000, mime_type: 'text/plain' });
    const response = await client.beta.files.download(uploaded.id);
    expect(Buffer.from(await response.arrayBuffer()).equals(content)).toBe(true);
    const listed: string[] = [];
    for await (const one of client.beta.files.list({ limit: 1 })) listed.push(one.id);
    expect(listed).toContain(uploaded.id);
    expect(await client.beta.files.delete(uploaded.id)).toMatchObject({ type: 'file_deleted' });
  });
});

describe('a session through the SDK', () => {
  it('answers, with previews that add up to the message, usage before idle, and a history equal to the stream', async () => {
    const session = await makeSession();
    expect(session.status).toBe('idle');
    const seen = await turn(session.id, [user('hello')], {
      event_deltas: ['agent.message', 'agent.thinking'],
    });
    expect(textsOf(seen)).toEqual(['You said: hello']);
    expect(stopReason(seen)).toEqual({ type: 'end_turn' });
    expect(seen.at(-2)?.type).toBe('session.usage');
    const deltas = seen.filter((event) => event.type === 'event_delta');
    const text = deltas
      .map((event) => (event.delta.content.type === 'text' ? event.delta.content.text : ''))
      .join('');
    expect('You said: hello'.startsWith(text)).toBe(true);
    const history: string[] = [];
    for await (const event of client.beta.sessions.events.list(session.id, { limit: 3 }))
      history.push(event.id);
    const stored = seen.filter((event) => event.type !== 'event_start' && event.type !== 'event_delta');
    const streamed = [...new Set(stored.map((event) => (event as { id: string }).id))];
    expect(streamed.toSorted()).toEqual(history.toSorted());
    const after = await client.beta.sessions.retrieve(session.id);
    expect(after).toMatchObject({ status: 'idle', archived_at: null });
    expect(after.usage.output_tokens).toBeGreaterThan(0);
  });

  it('runs a tool in its sandbox and goes on with the result', async () => {
    const session = await makeSession(bash('always_allow'));
    const seen = await turn(session.id, [user('run: echo made in $((40 + 2))')]);
    const use = seen.find((event) => event.type === 'agent.tool_use');
    const result = seen.find((event) => event.type === 'agent.tool_result');
    expect(use).toMatchObject({
      name: 'bash',
      evaluated_permission: 'allow',
      evaluation: { type: 'always_allow' },
    });
    expect(result).toMatchObject({ tool_use_id: use?.id, is_error: false });
    expect(textsOf(seen).join()).toContain('made in 42');
  });

  it('mounts uploaded files where it says, readable and not to be changed', async () => {
    const upload = await client.beta.files.upload({
      file: await toFile(Buffer.from('in the file'), 'a.txt'),
    });
    const agent = await client.beta.agents.create({
      name: 'R',
      model: 'gpt-5.2-codex',
      tools: bash('always_allow'),
    });
    const session = await client.beta.sessions.create({
      agent: agent.id,
      environment_id: environmentId,
      resources: [{ type: 'file', file_id: upload.id, mount_path: '/a.txt' }],
    });
    const [resource] = (await client.beta.sessions.resources.list(session.id)).data;
    const where = resource?.type === 'file' ? resource.mount_path : '';
    expect(where).toBe('/mnt/session/uploads/a.txt');
    const seen = await turn(session.id, [user(`run: cat ${where}; echo x > ${where} || echo refused`)]);
    expect(textsOf(seen).join()).toMatch(/in the file.*refused/s);
  });

  it('asks before a tool and runs it when allowed', async () => {
    const session = await makeSession(bash('always_ask'));
    const asked = await turn(session.id, [user('run: echo allowed')]);
    const use = asked.find((event) => event.type === 'agent.tool_use');
    expect(stopReason(asked)).toEqual({ type: 'requires_action', event_ids: [use?.id] });
    const refused = client.beta.sessions.events.send(session.id, { events: [user('Well?')] });
    await expect(refused).rejects.toBeInstanceOf(Anthropic.BadRequestError);
    const done = await turn(session.id, [
      { type: 'user.tool_confirmation', tool_use_id: use?.id ?? '', result: 'allow' },
    ]);
    expect(textsOf(done).join()).toContain('allowed');
    expect(stopReason(done)).toEqual({ type: 'end_turn' });
  });

  it('asks before a tool and never runs it when denied; the agent is told why', async () => {
    const session = await makeSession(bash('always_ask'));
    const asked = await turn(session.id, [user('run: touch /workspace/denied')]);
    const use = asked.find((event) => event.type === 'agent.tool_use');
    const done = await turn(session.id, [
      {
        type: 'user.tool_confirmation',
        tool_use_id: use?.id ?? '',
        result: 'deny',
        deny_message: 'Not on my watch.',
      },
    ]);
    const result = done.find((event) => event.type === 'agent.tool_result');
    expect(result).toMatchObject({ tool_use_id: use?.id, is_error: true });
    expect(textsOf(done).join()).toContain('Not on my watch.');
    const again = {
      type: 'user.tool_confirmation' as const,
      tool_use_id: use?.id ?? '',
      result: 'allow' as const,
    };
    await expect(client.beta.sessions.events.send(session.id, { events: [again] })).rejects.toMatchObject({
      status: 400,
    });
  });

  it('hands custom tools to the client and goes on with its answer', async () => {
    const session = await makeSession([
      {
        type: 'custom',
        name: 'ask_legal',
        description: 'Asks the legal department.',
        input_schema: {
          type: 'object',
          properties: { question: { type: 'string' } },
          required: ['question'],
        },
      },
    ]);
    const asked = await turn(session.id, [user('legal: may we?')]);
    const use = asked.find((event) => event.type === 'agent.custom_tool_use');
    expect(use).toMatchObject({ name: 'ask_legal', input: { question: 'may we?' } });
    const done = await turn(session.id, [
      {
        type: 'user.custom_tool_result',
        custom_tool_use_id: use?.id ?? '',
        content: [{ type: 'text', text: 'You may.' }],
      },
    ]);
    expect(textsOf(done)).toEqual(['The tool said: You may.']);
  });

  it('is interrupted in the middle of an answer and takes the next message', async () => {
    const session = await makeSession();
    const stream = await client.beta.sessions.events.stream(session.id, { event_deltas: ['agent.message'] });
    await client.beta.sessions.events.send(session.id, { events: [user('long: story')] });
    await expect(client.beta.sessions.archive(session.id)).rejects.toMatchObject({ status: 400 });
    let isInterrupted = false;
    for await (const event of stream) {
      if (event.type === 'event_delta' && !isInterrupted) {
        isInterrupted = true;
        await client.beta.sessions.events.send(session.id, { events: [{ type: 'user.interrupt' }] });
      }
      if (event.type === 'session.status_idle') {
        expect(event.stop_reason).toEqual({ type: 'end_turn' });
        break;
      }
    }
    expect(textsOf(await turn(session.id, [user('and now?')]))).toEqual(['You said: and now?']);
  });

  it('starts by itself with initial events, and is listed, threaded, updated, archived and deleted', async () => {
    const agent = await client.beta.agents.create({ name: 'Starter', model: 'gpt-5.2-codex' });
    const session = await client.beta.sessions.create({
      agent: { type: 'agent', id: agent.id, version: 1 },
      environment_id: environmentId,
      title: 'By itself',
      initial_events: [user('begin')],
    });
    expect(session.status).toBe('running');
    await expect
      .poll(async () => textsOf(await all(session.id)), { timeout: 20_000 })
      .toEqual(['You said: begin']);
    await expect.poll(async () => (await client.beta.sessions.retrieve(session.id)).status).toBe('idle');
    const page = await client.beta.sessions.list({ agent_id: agent.id, statuses: ['idle'], order: 'asc' });
    expect(page.data.map((one) => one.id)).toEqual([session.id]);
    const [thread] = (await client.beta.sessions.threads.list(session.id)).data;
    expect(thread).toMatchObject({ session_id: session.id, parent_thread_id: null });
    const threadEvents = await client.beta.sessions.threads.events.list(thread?.id ?? '', {
      session_id: session.id,
    });
    expect(textsOf(threadEvents.data)).toEqual(['You said: begin']);
    expect(await client.beta.sessions.update(session.id, { title: 'Renamed' })).toMatchObject({
      title: 'Renamed',
    });
    expect(await client.beta.sessions.archive(session.id)).toMatchObject({ status: 'terminated' });
    const late = client.beta.sessions.events.send(session.id, { events: [user('still there?')] });
    await expect(late).rejects.toBeInstanceOf(Anthropic.BadRequestError);
    const stream = await client.beta.sessions.events.stream(session.id);
    expect(await client.beta.sessions.delete(session.id)).toEqual({
      id: session.id,
      type: 'session_deleted',
    });
    const last: string[] = [];
    for await (const event of stream) last.push(event.type);
    expect(last).toEqual(['session.deleted']);
    await expect(client.beta.sessions.retrieve(session.id)).rejects.toBeInstanceOf(Anthropic.NotFoundError);
  });
});

async function all(session: string) {
  const events = [];
  for await (const event of client.beta.sessions.events.list(session)) events.push(event);
  return events;
}
