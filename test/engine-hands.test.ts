/**
 * What an engine says of its hands when they fail: a call that began is never said to have failed (L6), one that never
 * began is never said to be in doubt, and an interrupt waits for no sandbox. Over the real store and wire.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Script } from '../rehearsal/script.ts';
import type { SandboxInfo, SandboxSpec } from '../src/sandbox/executor.ts';
import { HostUnreachable } from '../src/sandbox/executor.ts';
import type { RepositoryPin } from '../src/session/events.ts';
import type { StoredEvent } from '../src/store/store.ts';
import { EngineRoom, event, idleAfter, message, textsOf, typesOf } from './peers/engine-room.ts';
import type { MemoryProcess } from './peers/memory-executor.ts';

const bashThenText: Script = (turn) =>
  turn.toolOutputs.length === 0
    ? { toolCalls: [{ name: 'bash', arguments: { command: 'make test' } }] }
    : { text: `saw: ${turn.lastToolOutput?.text}` };
const allowed = { bash: 'always_allow', write: 'always_allow' } as const;

let room: EngineRoom;

beforeEach(() => {
  room = new EngineRoom();
});

afterEach(async () => {
  await room.close();
  expect(room.errors).toEqual([]);
});

const resultOf = (log: StoredEvent[]) => log.find((e) => e.type === 'agent.tool_result')?.public;

/** Puts something before every start of a sandbox. */
function beforeSandbox(
  step: (spec: SandboxSpec) => Promise<SandboxInfo | { refused: 'io_error'; message: string } | null>,
) {
  const start = room.executor.createSandbox.bind(room.executor);
  room.executor.createSandbox = async (spec) => (await step(spec)) ?? start(spec);
}

const away = (): never => {
  throw new HostUnreachable('connection refused');
};

describe('a sandbox', () => {
  it('whose start was not heard of is still told of, with what isolates it (S4)', async () => {
    room.executor.breakNext('createSandbox', 'after');
    await room.open(bashThenText);
    const session = await room.createSession(allowed, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'sandbox.started')).toHaveLength(1);
  });

  it('that two calls want at once is started and got ready once', async () => {
    room.executor.put('/workspace/a.txt', 'a');
    let started = 0;
    beforeSandbox(async () => {
      started++;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return null;
    });
    const read = { name: 'read', arguments: { file_path: '/workspace/a.txt' } };
    await room.open((turn) => (turn.toolOutputs.length === 0 ? { toolCalls: [read, read] } : { text: 'ok' }));
    const session = await room.createSession({ read: 'always_allow' }, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(log.filter((e) => e.type === 'agent.tool_result')).toHaveLength(2);
    expect(log.filter((e) => e.type === 'sandbox.started')).toHaveLength(1);
    expect(log.filter((e) => e.type === 'sandbox.ready')).toHaveLength(1);
    expect(started).toBe(1);
  });

  it('that is slow to start does not hold up an interrupt, and nothing runs in it afterwards', async () => {
    const started = Promise.withResolvers<null>();
    let asked = 0;
    beforeSandbox(() => {
      asked++;
      return started.promise;
    });
    await room.open(bashThenText);
    const session = await room.createSession(allowed, message('go'));
    await room.until(session, () => asked > 0);
    await room.send(session, event('user.interrupt', {}));
    const log = await room.until(session, idleAfter(1));
    started.resolve(null);
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('interrupted');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(room.executor.started).toHaveLength(0);
  });
});

describe('a host that cannot be reached', () => {
  it('before a call was given to it is no reason for doubt: the call never began', async () => {
    beforeSandbox(async () => {
      room.aheadMs = 60_000; // its patience is over
      return away();
    });
    await room.open(bashThenText);
    const session = await room.createSession(allowed, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: true });
    expect(resultOf(log)).not.toHaveProperty('in_doubt');
  });

  it('after a call was given to it leaves the call in doubt, and runs it no second time (L6)', async () => {
    await room.open(bashThenText);
    room.executor.breakNext('startProcess', 'after');
    let starts = 0;
    beforeSandbox(async () => {
      if (starts++ === 0) return null;
      room.aheadMs = 60_000;
      return away();
    });
    const session = await room.createSession(allowed, message('go'));
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: true, in_doubt: true });
    expect(room.executor.started).toHaveLength(1);
  });

  it('is not asked again and again by an engine that has stopped', async () => {
    let asked = 0;
    beforeSandbox(async () => {
      asked++;
      return away();
    });
    await room.open(bashThenText);
    const session = await room.createSession(allowed, message('go'));
    await room.until(session, () => asked > 0);
    await room.engine.stop();
    const before = asked;
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(asked).toBe(before);
  });
});

describe('a call of an engine that died', () => {
  async function leaveRunning(): Promise<{ session: string; running: MemoryProcess }> {
    const begun = Promise.withResolvers<MemoryProcess>();
    room.executor.script = (process) => begun.resolve(process);
    await room.open(bashThenText);
    const session = await room.createSession(allowed, message('go'));
    const running = await begun.promise;
    await room.engine.stop();
    return { session, running };
  }

  it('is in doubt, not failed, when its sandbox cannot be had any more (L6)', async () => {
    const { session } = await leaveRunning();
    room.executor.loseProcesses('the machine restarted');
    beforeSandbox(async () => ({ refused: 'io_error', message: 'no space left' }));
    await room.startEngine();
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: true, in_doubt: true });
  });

  it('is in doubt, not failed, when its journal cannot be read (L6)', async () => {
    const { session } = await leaveRunning();
    room.executor.callStatus = async () => ({ refused: 'io_error', message: 'a bad sector' });
    await room.startEngine();
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: true, in_doubt: true });
  });

  it('and that came to its end before an interrupt did keeps its result (L6)', async () => {
    const { session, running } = await leaveRunning();
    running.write('all done').exit();
    await room.send(session, event('user.interrupt', {}));
    await room.startEngine();
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: false });
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('all done');
    expect(typesOf(log)).not.toContain('agent.message');
  });

  it('and is interrupted before the next one came is ended, and says so', async () => {
    const { session } = await leaveRunning();
    await room.send(session, event('user.interrupt', {}));
    await room.startEngine();
    const log = await room.until(session, idleAfter(1));
    expect(room.executor.asked.some(({ method }) => method === 'terminateProcess')).toBe(true);
    expect(textsOf(log, 'agent.tool_result')[0]).toContain('interrupted');
    expect(resultOf(log)).not.toHaveProperty('in_doubt');
  });

  it('and is interrupted while the host is away is in doubt at once', async () => {
    const { session } = await leaveRunning();
    await room.send(session, event('user.interrupt', {}));
    room.executor.callStatus = async () => away();
    room.executor.terminateProcess = async () => away();
    await room.startEngine();
    const log = await room.until(session, idleAfter(1));
    expect(resultOf(log)).toMatchObject({ is_error: true, in_doubt: true });
  });
});

describe('a repository', () => {
  const bundle = Buffer.from('a bundle');
  const commit = 'a'.repeat(40);

  async function withRepository(): Promise<void> {
    await room.open(bashThenText);
    const stored = await room.blobs.put('org_test', bundle);
    const repository: RepositoryPin = {
      upload: 'repository.bundle',
      blobSha256: stored.sha256,
      sizeBytes: stored.sizeBytes,
      mountPath: '/workspace',
      branch: 'main',
      head: commit,
      snapshotRef: 'refs/scriptorium/snapshot',
    };
    room.config = { repository };
  }

  const isLayout = (callId: string) => callId.startsWith('layout_');

  it('that could not be laid out is tried again at the next call, not failed for ever by the journal', async () => {
    let layouts = 0;
    room.executor.script = (process, request) => {
      if (!isLayout(request.callId)) process.write('ran').exit();
      else if (layouts++ === 0) process.write('no space left', 'stderr').exit({ exitCode: 1 });
      else process.write(`${commit} 0\n`).exit();
    };
    await withRepository();
    const session = await room.createSession(allowed, message('go'));
    const first = await room.until(session, idleAfter(1));
    expect(textsOf(first, 'agent.tool_result')[0]).toContain('no space left');
    await room.send(session, message('again'));
    const log = await room.until(session, idleAfter(2));
    expect(textsOf(log, 'agent.tool_result')[1]).toContain('ran');
    expect(log.filter((e) => e.type === 'sandbox.ready')).toHaveLength(1);
  });

  it('that is being laid out does not hold up an interrupt, and is there for the next turn', async () => {
    const layout = Promise.withResolvers<MemoryProcess>();
    room.executor.script = (process, request) =>
      isLayout(request.callId) ? layout.resolve(process) : void process.write('ran').exit();
    await withRepository();
    const session = await room.createSession(allowed, message('go'));
    const process = await layout.promise;
    await room.send(session, event('user.interrupt', {}), message('go on'));
    await room.until(session, idleAfter(1));
    process.write(`${commit} 0\n`).exit();
    const log = await room.until(session, idleAfter(2));
    expect(textsOf(log, 'agent.tool_result')[1]).toContain('ran');
    await room.send(session, message('and on'));
    const later = await room.until(session, idleAfter(3));
    expect(later.filter((e) => e.type === 'sandbox.ready')).toHaveLength(1);
    const layouts = room.executor.started.filter((request) => isLayout(request.callId));
    expect(layouts).toHaveLength(1);
  });
});
