// Calls against the rehearsal, a real HTTP peer that speaks the real wire.
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../../../rehearsal/peer.ts';
import type { Script } from '../../../rehearsal/script.ts';
import type { HistoryItem, RequestPrefix } from '../../session/model-request.ts';
import type { Deadlines } from '../deadlines.ts';
import type { Model, ModelOutcome, Preview } from '../model.ts';
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

function responseItem(outcome: ModelOutcome): HistoryItem {
  const { items, output } = completed(outcome);
  return {
    type: 'response',
    provider: 'openai',
    wire: 'openai-responses',
    model: prefix.model,
    items,
    output,
  };
}

describe('a call that works', () => {
  it('returns the text, its previews in order and what it cost', async () => {
    const model = await rehearse(() => ({
      text: 'A long enough text to come in several deltas.',
      deltaChars: 8,
    }));
    const previews: Preview[] = [];
    const outcome = completed(await call(model, [user('Hello')], previews));
    expect(outcome.output).toEqual([
      { type: 'message', text: 'A long enough text to come in several deltas.', index: 0 },
    ]);
    expect(outcome.stop).toBe('end');
    expect(outcome.servedModel).toBe('rehearsal-1');
    expect(outcome.usage.inputTokens).toBeGreaterThan(0);
    expect(previews[0]).toEqual({ type: 'item_start', index: 0, item: 'message' });
    const text = previews.flatMap((preview) => (preview.type === 'text_delta' ? [preview.text] : []));
    expect(text.length).toBeGreaterThan(3);
    expect(text.join('')).toBe('A long enough text to come in several deltas.');
  });

  it('sends exactly the rendered bytes, and no byte of the SDK’s own body', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    const rendered = model.render({ prefix, history: [user('Grüße 🌍 \u2028 "quoted"')] });
    await model.call(rendered, { signal: new AbortController().signal, onPreview: () => {} });
    const [request] = peer.requests;
    expect(request?.body).toEqual(Buffer.concat(rendered.body));
    expect(request?.sha256).toBe(rendered.sha256);
    expect(request?.problem).toBeNull();
  });

  it('sends reasoning back verbatim, so that a strict peer accepts the next step', async () => {
    const model = await rehearse((turn) =>
      turn.lastToolOutput === null
        ? {
            reasoning: 'I should look first.',
            text: 'Looking.',
            toolCalls: [
              { name: 'bash', arguments: { command: 'ls' } },
              { name: 'bash', arguments: { command: 'pwd' } },
            ],
          }
        : { text: `I saw ${turn.toolOutputs.map((output) => output.text).join(' and ')}` },
    );
    const history = [user('Look around')];
    const first = await call(model, history);
    const calls = completed(first).output.filter((item) => item.type === 'tool_call');
    expect(calls.map((item) => item.input)).toEqual([{ command: 'ls' }, { command: 'pwd' }]);
    expect(completed(first).output.map((item) => item.type)).toEqual([
      'reasoning',
      'message',
      'tool_call',
      'tool_call',
    ]);
    const results = calls.map(
      (item): HistoryItem => ({
        type: 'tool_result',
        providerCallId: item.providerCallId,
        content: [{ type: 'text', text: `<${item.rawInput}>` }],
        isError: false,
      }),
    );
    const second = completed(await call(model, [...history, responseItem(first), ...results]));
    expect(second.output[0]).toMatchObject({ text: 'I saw <{"command":"ls"}> and <{"command":"pwd"}>' });
  });
});

describe('a call that fails', () => {
  it('is a value when nobody listens at the address', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    await peer.stop();
    const { error } = failed(await call(model, [user('Hello')]));
    expect(error).toMatchObject({ kind: 'network', isRetryable: true, httpStatus: null });
    expect(error.message).toContain('ECONNREFUSED');
    peer = await startRehearsal({ script: () => ({}) });
  });
});
