/**
 * The lives that are recorded as golden histories: each takes a session through something that its log must be able to
 * say for ever. Over the engine and store of this version; only model and hands are played.
 */
import type { Script, ToolCall } from '../../rehearsal/script.ts';
import type { Draft } from '../../src/session/events.ts';
import { type EngineRoom, event, idleAfter, message, tenant, typesOf } from '../peers/engine-room.ts';
import type { MemoryProcess } from '../peers/memory-executor.ts';

/** Opens the room with its script, lives, and returns the session. */
export type Scenario = (room: EngineRoom) => Promise<string>;

const bash = (command: string): ToolCall => ({ name: 'bash', arguments: { command } });
const read = (file: string): ToolCall => ({ name: 'read', arguments: { file_path: `/workspace/${file}` } });

const bashThenText: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { reasoning: 'I look first.', toolCalls: [bash('make test')] }
    : { text: `saw: ${turn.lastToolOutput?.text}` };

/** As the API appends them: the input and that the session runs. */
function waking(text: string): Draft[] {
  const thread = { session_thread_id: 'sthr_1', agent_name: 'tester' };
  const running = event('session.status_running', {});
  return [message(text), running, event('session.thread_status_running', thread)];
}

async function useOf(room: EngineRoom, session: string, type = 'agent.tool_use'): Promise<string> {
  return (await room.log(session)).findLast((one) => one.type === type)?.id ?? '';
}

async function answer(room: EngineRoom, session: string, result: 'allow' | 'deny', deny_message?: string) {
  const tool_use_id = await useOf(room, session);
  const said = deny_message === undefined ? {} : { deny_message };
  await room.send(session, event('user.tool_confirmation', { tool_use_id, result, ...said }));
}

export const scenarios: Record<string, Scenario> = {
  async 'plain-turn'(room) {
    room.config = {
      metadata: { team: 'ink' },
      resources: [{ type: 'file', id: 'res_1', file_id: 'file_1' }],
    };
    await room.open((turn) => ({ reasoning: 'Hm.', text: `Grüße: ${turn.userText} ✍️` }));
    const session = await room.createSession({}, ...waking('one'), message('two'));
    await room.until(session, idleAfter(2));
    await room.send(session, ...waking('three'));
    await room.until(session, idleAfter(3));
    return session;
  },

  async 'tools-parallel-and-asking'(room) {
    room.executor.put('/workspace/a.txt', 'first\nsecond\n');
    room.executor.script = (process) =>
      process.write('built\n').write('a warning\n', 'stderr').write('/workspace/out\n', 'control').exit();
    await room.open((turn) =>
      turn.toolOutputs.length === 0
        ? { text: 'All at once.', toolCalls: [read('a.txt'), read('missing.txt'), bash('make')] }
        : { text: turn.toolOutputs.map(({ text }) => text).join('|') },
    );
    const policies = { read: 'always_allow', bash: 'always_ask' } as const;
    const session = await room.createSession(policies, ...waking('look and build'));
    await room.until(session, idleAfter(1));
    await answer(room, session, 'allow');
    await room.until(session, idleAfter(2));
    return session;
  },

  async denied(room) {
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_ask' }, message('go'));
    await room.until(session, idleAfter(1));
    await answer(room, session, 'deny', 'not on a Friday');
    await room.until(session, idleAfter(2));
    return session;
  },

  async 'absurd-calls'(room) {
    const absurd = ['unknown_tool', 'not_json', 'duplicate_ids'] as const;
    let asked = 0;
    await room.open(() => {
      const kind = absurd[asked++];
      return kind ? { absurdToolCalls: kind } : { text: 'sober' };
    });
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, idleAfter(1));
    return session;
  },

  async 'interrupted-command'(room) {
    room.executor.script = () => undefined;
    await room.open((turn) =>
      turn.userText === 'go' ? { toolCalls: [bash('sleep 999')] } : { text: 'moved on' },
    );
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    await room.send(session, event('user.interrupt', {}), message('something else'));
    await room.until(session, idleAfter(2));
    return session;
  },

  async 'interrupted-model'(room) {
    await room.open((turn) =>
      turn.userText === 'go' ? { text: 'x'.repeat(400), eventDelayMs: 50 } : { text: 'ok' },
    );
    const session = await room.createSession({}, message('go'));
    await room.until(session, () => room.peer.requests.length > 0);
    await room.send(session, event('user.interrupt', {}));
    await room.until(session, idleAfter(1));
    await room.send(session, message('again'));
    await room.until(session, idleAfter(2));
    return session;
  },

  async 'provider-failure'(room) {
    let asked = 0;
    await room.open(() => {
      asked++;
      if (asked <= 2) return { status: 529, body: { error: { message: 'overloaded' } } };
      if (asked === 4) return { status: 401, body: { error: { message: 'bad key' } } };
      return { text: `answer ${asked}` };
    });
    const session = await room.createSession({}, message('go'));
    await room.until(session, idleAfter(1));
    await room.send(session, message('and again'));
    await room.until(session, idleAfter(2));
    await room.send(session, message('once more'));
    await room.until(session, idleAfter(3));
    return session;
  },

  async 'cut-and-refused'(room) {
    await room.open((turn) => {
      if (turn.userText === 'long') return { text: 'too long', incomplete: 'max_output_tokens' };
      return { refusal: 'That I do not do.' };
    });
    const session = await room.createSession({}, message('long'), message('bad'));
    await room.until(session, idleAfter(2));
    return session;
  },

  async 'in-doubt'(room) {
    room.executor.script = () => undefined;
    await room.open(bashThenText);
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    room.executor.loseProcesses('the host restarted');
    await room.killAndReplace();
    await room.until(session, idleAfter(1));
    return session;
  },

  async steering(room) {
    const release = Promise.withResolvers<void>();
    room.executor.script = (process) => void release.promise.then(() => process.exit());
    await room.open((turn) =>
      turn.userText === 'rather do this' ? { text: 'doing this' } : { toolCalls: [bash('x')] },
    );
    const session = await room.createSession({ bash: 'always_allow' }, message('do that'));
    await room.until(session, (log) => typesOf(log).includes('intent'));
    await room.send(session, message('rather do this', 'steer'));
    release.resolve();
    await room.until(session, idleAfter(1));
    return session;
  },

  async 'custom-tool'(room) {
    const inputSchema = {
      type: 'object',
      properties: { question: { type: 'string' } },
      required: ['question'],
    };
    room.config = {
      prefix: {
        model: 'rehearsal-1',
        effort: 'high',
        instructions: 'Ask the lawyers.',
        tools: [{ name: 'ask_legal', description: 'Asks the legal department.', inputSchema }],
        maxOutputTokens: 4_000,
        cacheKey: 'golden',
      },
      tools: [{ kind: 'custom', name: 'ask_legal', policy: 'always_allow', isPure: true }],
    };
    const call = { name: 'ask_legal', arguments: { question: 'May we?' } };
    await room.open((turn) =>
      turn.toolOutputs.length === 0
        ? { toolCalls: [call] }
        : { text: `They say ${turn.lastToolOutput?.text}` },
    );
    const session = await room.createSession({}, message('ask them'));
    await room.until(session, idleAfter(1));
    const custom_tool_use_id = await useOf(room, session, 'agent.custom_tool_use');
    const content = [{ type: 'text', text: 'yes, if quietly' }];
    await room.send(session, event('user.custom_tool_result', { custom_tool_use_id, content }));
    await room.until(session, idleAfter(2));
    return session;
  },

  async 'crash-takeover'(room) {
    let running: MemoryProcess | undefined;
    room.executor.script = (process) => {
      running = process.write('half ');
    };
    let asked = 0;
    await room.open((turn) => {
      if (turn.toolOutputs.length === 0) return { toolCalls: [bash('make test')] };
      return asked++ === 0 ? { stallMs: 60_000 } : { text: `saw: ${turn.lastToolOutput?.text}` };
    });
    const session = await room.createSession({ bash: 'always_allow' }, message('go'));
    await room.until(session, () => room.executor.started.length > 0);
    await room.killAndReplace();
    running?.write('whole').exit();
    await room.until(session, () => asked > 0);
    await room.killAndReplace();
    await room.until(session, idleAfter(1));
    return session;
  },

  async 'renamed-and-archived'(room) {
    room.config = {
      metadata: { team: 'ink' },
      resources: [{ type: 'file', id: 'res_1', file_id: 'file_1' }],
    };
    await room.open(() => ({ text: 'hello' }));
    const session = await room.createSession({}, message('hi'));
    await room.until(session, idleAfter(1));
    await room.send(session, event('session.updated', { title: 'Greeting', metadata: { ticket: '7' } }));
    await room.send(session, event('session.archived', {}));
    return session;
  },

  async deleted(room) {
    await room.open(() => ({ text: 'hello' }));
    const session = await room.createSession({}, message('hi'));
    await room.until(session, idleAfter(1));
    await room.engine.stop();
    const gone = [event('session.deleted', {})] as unknown as Parameters<
      typeof room.store.append
    >[0]['events'];
    await room.store.append({ ...tenant, stream: session, events: gone, eraseStream: true });
    return session;
  },
};
