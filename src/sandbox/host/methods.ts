/**
 * The host's methods: parameters are checked, the fence is, then the session does it. Results are the port's own
 * shapes with bytes as base64; endings are results, too, and never JSON-RPC errors.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, ftruncateSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { failpointNow, failpoints } from '../../protocol/failpoint.ts';
import type { RunningSandbox } from '../backend.ts';
import { isRefusal, type ProcessRead, type Refusal, type StartProcess, sandboxPaths } from '../executor.ts';
import { readFile, stat, walk } from '../guest/files.ts';
import { FrameError } from '../guest/frames.ts';
import { LinkEnded, MAX_LIVE_CALLS } from '../guest/link.ts';
import { layerMethods } from '../image/methods.ts';
import { checkpointMethods } from './checkpoint-methods.ts';
import { EditsCall, journalled } from './edits-call.ts';
import type { Host } from './host.ts';
import { type Params, takeCall, takeEdits, takeSession, takeSpec } from './params.ts';
import { MAX_READ_BYTES, type ProcessCall } from './process-call.ts';
import type { Session } from './session.ts';
import { countersOf } from './session-limits.ts';
import { encodeBytes } from './wire.ts';

type Answer = Promise<object>;
export type Method = (host: Host, params: Params) => Answer;

const MAX_FILE_READ_BYTES = 24 << 20;
const MAX_STDIN_BYTES = 24 << 20;
const MAX_UPLOAD_CHUNK_BYTES = 16 << 20;
const MAX_OUTPUT_BYTES = 2 ** 32;

const noSandbox = (session: string): Refusal => ({
  refused: 'no_sandbox',
  message: `session ${session} is not on this host; create its sandbox first`,
});

/** Finds the session, lets the caller's fence in, counts the request for the idle clock. */
async function withSession(
  host: Host,
  request: { session: string; fence: number },
  act: (session: Session) => Answer,
): Answer {
  const session = host.find(request.session);
  if (session === undefined) return noSandbox(request.session);
  session.requests++;
  try {
    const refusal = await session.admit(request.fence);
    return refusal ?? (await act(session));
  } catch (error) {
    return endingOf(error, session);
  } finally {
    session.requests--;
    session.lastUsedMs = performance.now();
  }
}

/** Failures of the sandbox and of the disk are endings; anything else is a bug and rejects. */
function endingOf(error: unknown, session: Session): Refusal {
  if (error instanceof LinkEnded) return { refused: 'no_sandbox', message: error.message };
  if (error instanceof FrameError) {
    session.sandbox?.link.end(`the guest broke the protocol: ${error.message}`);
    return { refused: 'no_sandbox', message: error.message };
  }
  const code = (error as NodeJS.ErrnoException).code;
  if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code))
    return { refused: 'io_error', message: `the host's disk: ${(error as Error).message}` };
  throw error;
}

function withSandbox(
  host: Host,
  request: { session: string; fence: number },
  act: (sandbox: RunningSandbox, session: Session) => Answer,
): Answer {
  return withSession(host, request, async (session) => {
    const sandbox = await session.running();
    return isRefusal(sandbox) ? sandbox : act(sandbox, session);
  });
}

async function createSandbox(host: Host, params: Params): Answer {
  const spec = takeSpec(params);
  await host.findOrMake(spec.session);
  return withSession(host, spec, async (session) => {
    const info = await session.create(spec);
    return isRefusal(info) ? info : { ...info, host: host.id };
  });
}

function destroySandbox(host: Host, params: Params): Answer {
  const request = takeSession(params);
  const removeDisk = params.boolean('removeDisk');
  if (host.find(request.session) === undefined) return Promise.resolve({});
  return withSession(host, request, async (session) => {
    await session.stop('destroyed');
    if (removeDisk) await host.removeDisk(session);
    return {};
  });
}

function takeStart(params: Params): StartProcess {
  const request: StartProcess = {
    ...takeCall(params),
    argv: params.strings('argv', 4000, 128 << 10),
    cwd: params.path('cwd'),
    timeoutMs: params.milliseconds('timeoutMs', 1),
    maxOutputBytes: params.integer('maxOutputBytes', 0, MAX_OUTPUT_BYTES),
    mergeStderr: params.boolean('mergeStderr'),
    waitMs: params.milliseconds('waitMs'),
  };
  if (params.has('isOurs')) request.isOurs = params.boolean('isOurs');
  if (params.has('env')) request.env = params.environment('env');
  if (params.has('stdin')) request.stdin = params.bytes('stdin', MAX_STDIN_BYTES);
  return request;
}

/** What a call is, apart from who asks and how long they wait. */
function hashOf(content: object): string {
  return createHash('sha256').update(JSON.stringify(content)).digest('hex');
}

function hashOfStart(request: StartProcess): string {
  const { argv, cwd, env, stdin, timeoutMs, maxOutputBytes, mergeStderr } = request;
  const stdinHash = stdin === undefined ? null : createHash('sha256').update(stdin).digest('hex');
  const sortedEnv = Object.entries(env ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return hashOf(['process', argv, cwd, sortedEnv, stdinHash, timeoutMs, maxOutputBytes, mergeStderr]);
}

const mismatch = (callId: string): Refusal => ({
  refused: 'call_mismatch',
  message: `call ${callId} was journalled with other content`,
});

function startProcess(host: Host, params: Params): Answer {
  const request = takeStart(params);
  if (request.argv.length === 0 || request.argv[0] === '') params.strings('argv', -1, 0);
  return withSession(host, request, async (session) => {
    const contentHash = hashOfStart(request);
    const known = session.call(request.callId);
    if (known !== undefined) {
      if (known.kind !== 'process' || known.contentHash !== contentHash) return mismatch(request.callId);
      return waitAndRead(known, request.waitMs);
    }
    const sandbox = await session.running();
    if (isRefusal(sandbox)) return sandbox;
    const twin = session.call(request.callId);
    if (twin?.kind === 'process') return waitAndRead(twin, request.waitMs);
    if (sandbox.link.liveCalls >= MAX_LIVE_CALLS)
      return {
        refused: 'too_large',
        message: `more than ${MAX_LIVE_CALLS} calls hold processes in this sandbox`,
      };
    const call = await session.beginProcess(request.callId, contentHash, request.fence);
    launch(session, sandbox, call, request);
    return waitAndRead(call, request.waitMs);
  });
}

function launch(session: Session, sandbox: RunningSandbox, call: ProcessCall, request: StartProcess): void {
  if (sandbox.link.hasEnded) {
    call.lose('its sandbox ended before it could start', session.journal);
    return;
  }
  const env = environmentOf(session, sandbox, request.env);
  call.onFinished = () => session.finished(call);
  const cwd = sandbox.inside(request.cwd);
  // None but itself: what was counted till now is of no call.
  if (session.runningCalls() <= 1) session.limits.noticeBackground(session.journal);
  const bounds = { limits: session.spec?.limits ?? null, counters: () => countersOf(sandbox) };
  call.start(sandbox.link, { ...request, cwd, env }, session.journal, bounds);
  if (failpoints.on) failpointNow('host.after-spawn');
}

function environmentOf(
  session: Session,
  sandbox: RunningSandbox,
  env: Record<string, string> | undefined,
): Record<string, string> {
  return {
    PATH: `${sandboxPaths.ownTools}:/usr/local/bin:/usr/bin:/bin`,
    HOME: sandbox.inside(sandboxPaths.home),
    USER: 'agent',
    LOGNAME: 'agent',
    SHELL: '/bin/sh',
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    TMPDIR: '/tmp',
    ...sandbox.env,
    ...session.spec?.env,
    ...env,
  };
}

async function waitAndRead(call: ProcessCall, waitMs: number): Promise<object> {
  await call.waitForEnd(waitMs);
  return encodeRead(await call.read(0, MAX_READ_BYTES, 0));
}

function encodeRead(read: ProcessRead): object {
  return { ...read, chunks: read.chunks.map((chunk) => ({ ...chunk, data: encodeBytes(chunk.data) })) };
}

function withProcessCall(
  host: Host,
  params: Params,
  act: (call: ProcessCall, session: Session) => Answer,
): Answer {
  const request = takeCall(params);
  return withSession(host, request, async (session) => {
    session.thaw();
    const call = session.call(request.callId);
    if (call?.kind !== 'process')
      return {
        refused: 'not_found',
        message: `no process call ${request.callId} in session ${request.session}`,
      };
    return act(call, session);
  });
}

function readProcess(host: Host, params: Params): Answer {
  const afterSeq = params.integer('afterSeq', 0, Number.MAX_SAFE_INTEGER);
  const maxBytes = Math.min(MAX_READ_BYTES, params.integer('maxBytes', 1, Number.MAX_SAFE_INTEGER));
  const waitMs = params.milliseconds('waitMs');
  return withProcessCall(host, params, async (call) =>
    encodeRead(await call.read(afterSeq, maxBytes, waitMs)),
  );
}

/** A tree that cannot be killed from inside within this long takes its sandbox with it. */
const TERMINATE_MS = 5000;

function terminateProcess(host: Host, params: Params): Answer {
  return withProcessCall(host, params, async (call, session) => {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<'too long'>((resolve) => {
      timer = setTimeout(() => resolve('too long'), TERMINATE_MS);
    });
    const ending = await Promise.race([call.terminate(), tooLong]);
    clearTimeout(timer);
    if (ending === 'too long') session.sandbox?.link.end('a call could not be terminated otherwise');
    await call.waitForEnd(TERMINATE_MS);
    return {};
  });
}

async function callStatus(host: Host, params: Params): Answer {
  const request = takeCall(params);
  if (host.find(request.session) === undefined) return { kind: 'unknown' };
  return withSession(host, request, async (session) => {
    session.thaw();
    const call = session.call(request.callId);
    // Begun by an earlier host: starting the sandbox finishes it.
    if (
      call?.kind === 'edits' &&
      call.outcome === null &&
      session.sandbox === null &&
      session.spec !== null
    ) {
      const started = await session.create(session.spec);
      if (isRefusal(started)) return { kind: 'edits', state: 'lost', reason: started.message };
    }
    return session.status(request.callId);
  });
}

function readFileMethod(host: Host, params: Params): Answer {
  const request = {
    ...takeSession(params),
    path: params.path('path'),
    offset: params.has('offset') ? params.integer('offset', 0, 2 ** 52) : 0,
    maxBytes: Math.min(MAX_FILE_READ_BYTES, params.integer('maxBytes', 0, Number.MAX_SAFE_INTEGER)),
  };
  return withSandbox(host, request, async (sandbox) => {
    const read = await readFile(sandbox.link, { ...request, path: sandbox.inside(request.path) });
    return isRefusal(read) ? read : { ...read, data: encodeBytes(read.data) };
  });
}

function statMethod(host: Host, params: Params): Answer {
  const request = { ...takeSession(params), path: params.path('path') };
  return withSandbox(host, request, async (sandbox) => {
    const found = await stat(sandbox.link, sandbox.inside(request.path));
    return isRefusal(found) ? found : { ...found, path: request.path };
  });
}

function walkMethod(host: Host, params: Params): Answer {
  const request = {
    ...takeSession(params),
    path: params.path('path'),
    skipDirectories: params.strings('skipDirectories', 200, 255),
    maxEntries: params.integer('maxEntries', 1, 100_000),
    maxDepth: params.integer('maxDepth', 1, 64),
  };
  return withSandbox(host, request, async (sandbox) => {
    const found = await walk(sandbox.link, { ...request, path: sandbox.inside(request.path) });
    if (isRefusal(found)) return found;
    return {
      ...found,
      entries: found.entries.map((entry) => ({ ...entry, path: sandbox.outside(entry.path) })),
    };
  });
}

function applyEdits(host: Host, params: Params): Answer {
  const request = { ...takeCall(params), edits: takeEdits(params) };
  const edits = request.edits.map(journalled);
  const contentHash = hashOf(['edits', edits]);
  return withSandbox(host, request, async (sandbox, session) => {
    const known = session.call(request.callId);
    if (known !== undefined) {
      if (known.kind !== 'edits' || known.contentHash !== contentHash) return mismatch(request.callId);
      return known.run(sandbox, session.journal, true);
    }
    const call = new EditsCall(request.callId, contentHash, request.edits);
    const { fence, callId } = request;
    call.begun = session.beginEdits(call, { type: 'edits', fence, callId, contentHash, edits });
    return call.run(sandbox, session.journal, false);
  });
}

/** The one place where the host writes into a session's disk: a folder that the session can only read. */
function putUpload(host: Host, params: Params): Answer {
  const request = takeSession(params);
  const name = params.string('name', 255, /^[^/\0]+$/);
  if (name === '.' || name === '..') params.string('name', -1);
  const offset = params.integer('offset', 0, 2 ** 40);
  const data = params.bytes('data', MAX_UPLOAD_CHUNK_BYTES);
  return withSession(host, request, async (session) => {
    const file = path.join(session.folders.uploads, name);
    const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW, 0o644);
    try {
      ftruncateSync(fd, offset);
      for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at, offset + at);
    } finally {
      closeSync(fd);
    }
    return {};
  });
}

export const methods: Record<string, Method> = {
  'sandbox/create': createSandbox,
  'sandbox/destroy': destroySandbox,
  'process/start': startProcess,
  'process/read': readProcess,
  'process/terminate': terminateProcess,
  'call/status': callStatus,
  'fs/readFile': readFileMethod,
  'fs/stat': statMethod,
  'fs/walk': walkMethod,
  'fs/applyEdits': applyEdits,
  'upload/put': putUpload,
  ...checkpointMethods(withSession),
  ...layerMethods(withSession),
};
