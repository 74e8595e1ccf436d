// Calls that go wrong: every way in which the rehearsal, a real HTTP peer, can misbehave.
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../../../rehearsal/peer.ts';
import type { Json, Reply, Script } from '../../../rehearsal/script.ts';
import type { HistoryItem, RequestPrefix } from '../../session/model-request.ts';
import type { Deadlines } from '../deadlines.ts';
import type { Model, ModelError, ModelOutcome, Preview } from '../model.ts';
import { createOpenAiResponses, warmUp } from './index.ts';

const apiKey = 'sk-test-0123456789abcdef';

const prefix: RequestPrefix = {
  model: 'rehearsal-1',
  effort: 'high',
  instructions: 'You are a scribe.',
  tools: [{ name: 'bash', description: 'Runs a command.', inputSchema: { type: 'object', properties: {} } }],
  maxOutputTokens: 4096,
  cacheKey: 'session_1',
};

let peer: Rehearsal;
afterEach(() => peer.stop());
beforeAll(warmUp);

async function rehearse(
  script: Script,
  deadlines: Partial<Deadlines> = {},
  expectedKey?: string,
): Promise<Model> {
  peer = await startRehearsal({ script, ...(expectedKey === undefined ? {} : { apiKey: expectedKey }) });
  return createOpenAiResponses({ apiKey, baseURL: peer.url, deadlines });
}

function user(text: string): HistoryItem {
  return { type: 'user', content: [{ type: 'text', text }] };
}

async function call(model: Model, history: HistoryItem[], previews: Preview[] = []): Promise<ModelOutcome> {
  const rendered = model.render({ prefix, history });
  return model.call(rendered, {
    signal: new AbortController().signal,
    onPreview: (preview) => void previews.push(preview),
  });
}

function completed(outcome: ModelOutcome): Extract<ModelOutcome, { status: 'completed' }> {
  if (outcome.status === 'failed') throw new Error(`failed: ${JSON.stringify(outcome.error)}`);
  return outcome;
}

function failed(outcome: ModelOutcome): Extract<ModelOutcome, { status: 'failed' }> {
  if (outcome.status === 'completed') throw new Error(`completed: ${JSON.stringify(outcome.output)}`);
  return outcome;
}

describe('a call that fails', () => {
  it('is a value when nobody listens at the address', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    await peer.stop();
    const { error } = failed(await call(model, [user('Hello')]));
    expect(error).toMatchObject({ kind: 'network', isRetryable: true, httpStatus: null });
    expect(error.message).toContain('ECONNREFUSED');
    peer = await startRehearsal({ script: () => ({}) });
  });

  const error = (code: string | null, message = 'No.', type = 'some_error'): Json => ({
    error: { message, type, code },
  });
  it.each<[string, Reply, Partial<ModelError>]>([
    [
      'a rate limit',
      { status: 429, headers: { 'retry-after': '2' } },
      { kind: 'rate_limit', retryAfterMs: 2000 },
    ],
    [
      'an empty account',
      { status: 429, body: error('insufficient_quota') },
      { kind: 'billing', isRetryable: false },
    ],
    ['a server error', { status: 500 }, { kind: 'server', httpStatus: 500, isRetryable: true }],
    ['an error page', { status: 502, body: '<html>' }, { kind: 'server', httpStatus: 502 }],
    [
      'an overload',
      { status: 503, headers: { 'retry-after-ms': '40' } },
      { kind: 'overloaded', retryAfterMs: 40 },
    ],
    ['another overload', { status: 529 }, { kind: 'overloaded', isRetryable: true }],
    ['a slow-down', { status: 503, body: error('slow_down') }, { kind: 'overloaded' }],
    [
      'a bad request',
      { status: 400, body: error('unknown_parameter') },
      { kind: 'invalid_request', isRetryable: false },
    ],
    ['a missing model', { status: 404, body: error('model_not_found') }, { kind: 'invalid_request' }],
    ['a redirect', { status: 307, headers: { location: 'http://127.0.0.1:1/' } }, { isRetryable: true }],
    ['a full context', { status: 400, body: error('context_length_exceeded') }, { kind: 'context_overflow' }],
    [
      'a full context in words',
      { status: 400, body: error(null, 'Your input exceeds the context window of this model.') },
      { kind: 'context_overflow', isRetryable: false },
    ],
    [
      'a failed response',
      { failed: { code: 'server_error', message: 'Oops.' } },
      { kind: 'server', httpStatus: null },
    ],
    [
      'a failed response of limits',
      { failed: { code: 'rate_limit_exceeded', message: '' } },
      { kind: 'rate_limit' },
    ],
    [
      'a policy',
      { failed: { code: 'bio_policy', message: 'No.' } },
      { kind: 'invalid_request', isRetryable: false },
    ],
    [
      'an error event',
      { errorEvent: { code: 'rate_limit_exceeded', message: 'Slow.' } },
      { kind: 'rate_limit' },
    ],
    ['an error event without a code', { errorEvent: { code: null, message: 'Oops.' } }, { kind: 'server' }],
    ['a frame that is no JSON', { malformed: 'json' }, { kind: 'malformed', isRetryable: true }],
    ['a page instead of frames', { malformed: 'sse' }, { kind: 'broken_stream', isRetryable: true }],
    ['a byte missing in a character', { malformed: 'truncated-utf8' }, { kind: 'malformed' }],
    ['a cut connection', { breakAfterEvents: 4 }, { kind: 'broken_stream', isRetryable: true }],
    [
      'a connection cut before any event',
      { breakAfterEvents: 0 },
      { kind: 'broken_stream', isRetryable: true },
    ],
    ['a stream that just ends', { endAfterEvents: 4 }, { kind: 'broken_stream', isRetryable: true }],
  ])('is classified once: %s', async (_, reply, expected) => {
    expect(failed(await call(await rehearse(() => reply), [user('Hello')])).error).toMatchObject(expected);
    // Retrying is the engine's: it must know of every attempt, and pay for it.
    expect(peer.requests).toHaveLength(1);
  });

  it('never shows the key, even to a peer that quotes it in errors, items and names', async () => {
    const model = await rehearse(() => ({ text: 'ok' }), {}, 'another-key');
    const { error } = failed(await call(model, [user('Hello')]));
    expect(error).toMatchObject({ kind: 'auth', isRetryable: false, httpStatus: 401 });
    expect(error.message).toBe('the provider refused the credential (HTTP 401, invalid_api_key)');
    await peer.stop();
    const quoting = await rehearse(() => ({ fail: `Bad header: Bearer ${apiKey}` }));
    const refused = failed(await call(quoting, [user('Hello')])).error;
    expect(refused.message).toBe(
      'the provider answered: Bad header: Bearer [redacted] (HTTP 400, rehearsal_failed)',
    );
    await peer.stop();
    const telling = await rehearse(() => ({
      text: `Your key is ${apiKey}.`,
      extraItems: [{ type: 'x', [apiKey]: apiKey }],
    }));
    const previews: Preview[] = [];
    const outcome = completed(await call(telling, [user('Hello')], previews));
    expect(JSON.stringify(outcome)).not.toContain('0123456789');
    expect(outcome.output[0]).toMatchObject({ text: 'Your key is [redacted].' });
  });

  it('reports a stall before the headers, and one in the middle, as what they are', async () => {
    const silent = await rehearse(() => ({ stallMs: 60_000, afterEvents: 0 }), { firstByteMs: 50 });
    expect(failed(await call(silent, [user('Hello')])).error).toMatchObject({
      kind: 'network',
      isRetryable: true,
    });
    await peer.stop();
    const stalling = await rehearse(() => ({ stallMs: 60_000 }), { idleMs: 50 });
    expect(failed(await call(stalling, [user('Hello')])).error).toMatchObject({ kind: 'broken_stream' });
  });

  it('is a network failure when no connection comes about, and the attempt is given up', async () => {
    const hanging: typeof fetch = (_, init) =>
      new Promise((_resolve, reject) => {
        init?.signal?.addEventListener('abort', () => reject(new DOMException('gone', 'AbortError')));
      });
    peer = await startRehearsal({ script: () => ({}) });
    const model = createOpenAiResponses({
      apiKey,
      baseURL: peer.url,
      fetch: hanging,
      deadlines: { connectMs: 20 },
    });
    const { error } = failed(await call(model, [user('Hello')]));
    expect(error).toMatchObject({ kind: 'network', message: 'no connection to the provider in time' });
  });

  it('is none when a stalled stream goes on in time', async () => {
    const model = await rehearse(() => ({ stallMs: 20, thenContinue: { text: 'Back again.' } }));
    expect(completed(await call(model, [user('Hello')])).output[0]).toMatchObject({ text: 'Back again.' });
  });
});

describe('an abort', () => {
  it('before the call sends nothing', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    const rendered = model.render({ prefix, history: [user('Hello')] });
    const outcome = await model.call(rendered, { signal: AbortSignal.abort(), onPreview: () => {} });
    expect(failed(outcome).error).toMatchObject({ kind: 'aborted', isRetryable: false });
    expect(peer.requests).toHaveLength(0);
  });

  it('in the middle ends the call, silences the listener and closes the peer’s socket', async () => {
    const model = await rehearse(() => ({ text: 'a long story '.repeat(500), eventDelayMs: 1 }));
    const controller = new AbortController();
    let heardAfter = 0;
    const rendered = model.render({ prefix, history: [user('Hello')] });
    const outcome = await model.call(rendered, {
      signal: controller.signal,
      onPreview: (preview) => {
        if (controller.signal.aborted) heardAfter += 1;
        if (preview.type === 'text_delta') controller.abort();
      },
    });
    expect(failed(outcome).error.kind).toBe('aborted');
    await expect.poll(() => peer.requests[0]?.isAborted).toBe(true);
    expect(heardAfter).toBe(0);
  });

  it('while the peer has not answered closes the socket too', async () => {
    const model = await rehearse(() => ({ stallMs: 60_000, afterEvents: 0 }));
    const controller = new AbortController();
    const rendered = model.render({ prefix, history: [user('Hello')] });
    const calling = model.call(rendered, { signal: controller.signal, onPreview: () => {} });
    await expect.poll(() => peer.requests.length).toBe(1);
    controller.abort();
    expect(failed(await calling).error.kind).toBe('aborted');
    await expect.poll(() => peer.requests[0]?.isAborted).toBe(true);
  });
});

describe('a bug', () => {
  it('of a listener rejects the call instead of looking like a failure of the provider', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    const rendered = model.render({ prefix, history: [user('Hello')] });
    const onPreview = (): void => {
      throw new Error('a bug in the viewer');
    };
    await expect(model.call(rendered, { signal: new AbortController().signal, onPreview })).rejects.toThrow(
      'a bug in the viewer',
    );
  });
});
