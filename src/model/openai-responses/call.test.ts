// Calls against the rehearsal, a real HTTP peer that speaks the real wire.
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from '../../../rehearsal/peer.ts';
import type { Script } from '../../../rehearsal/script.ts';
import type { HistoryItem, RequestPrefix } from '../../session/model-request.ts';
import type { Model, ModelOutcome, Preview } from '../model.ts';
import { costMicros, priceOf } from '../prices.ts';
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

async function rehearse(script: Script): Promise<Model> {
  peer = await startRehearsal({ script });
  return createOpenAiResponses({ apiKey, baseURL: peer.url });
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

  it('gets its own answer where others are under way on the same client', async () => {
    const model = await rehearse(({ userText }) => ({ text: `You said ${userText}.`, deltaChars: 4 }));
    const names = ['one', 'two', 'three', 'four'];
    const outcomes = await Promise.all(names.map((name) => call(model, [user(name)])));
    for (const [at, name] of names.entries()) {
      const said = JSON.stringify(completed(outcomes[at] as ModelOutcome).output);
      expect(names.filter((one) => said.includes(one))).toEqual([name]);
    }
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

describe('what models do', () => {
  it('never loses a character that arrives split over network chunks', async () => {
    const text = 'Grüße 🌍👩‍👩‍👧 — 日本語 \u2028\u0000 "\\" end';
    const model = await rehearse(() => ({ text, deltaChars: 1, chunkBytes: 3 }));
    const previews: Preview[] = [];
    const outcome = completed(await call(model, [user('Hello')], previews));
    expect(outcome.output[0]).toMatchObject({ text });
    const seen = previews.flatMap((preview) => (preview.type === 'text_delta' ? [preview.text] : []));
    expect(seen.join('')).toBe(text);
  });

  it('takes a response without any item as one that says nothing', async () => {
    const outcome = completed(await call(await rehearse(() => ({})), [user('Hello')]));
    expect(outcome).toMatchObject({ items: [], output: [], stop: 'end' });
  });

  it('keeps items of unknown types, ignores unknown events, and sends the items back', async () => {
    const item = { type: 'thought_crystal', id: 'tc_1', facets: [{ hue: 7 }] };
    const event = { type: 'response.crystal.growing', size: 3 };
    const model = await rehearse((turn) =>
      turn.step === 0 ? { text: 'ok', extraItems: [item], extraEvents: [event] } : { text: 'again' },
    );
    const first = await call(model, [user('Hello')]);
    expect(completed(first).items[1]).toEqual(item);
    expect(completed(first).output).toHaveLength(1);
    completed(await call(model, [user('Hello'), responseItem(first), user('More')]));
    expect(peer.requests[1]?.body?.toString()).toContain('"type":"thought_crystal"');
  });

  it('reads arguments that are not JSON as null, and keeps what the model wrote', async () => {
    const outcome = completed(
      await call(await rehearse(() => ({ absurdToolCalls: 'not_json' })), [user('Hello')]),
    );
    expect(outcome.output).toMatchObject([{ type: 'tool_call', input: null, rawInput: '{"command": "true' }]);
  });

  it.each([
    ['[1,2]', null],
    ['"text"', null],
    ['', {}],
    ['{"a":{"b":[1]}}', { a: { b: [1] } }],
  ])('reads the arguments %s as an object or not at all', async (rawInput, input) => {
    const model = await rehearse(() => ({ toolCalls: [{ name: 'bash', arguments: rawInput }] }));
    expect(completed(await call(model, [user('Hello')])).output).toMatchObject([{ input, rawInput }]);
  });

  it.each([
    ['huge_arguments', 1],
    ['unknown_tool', 1],
    ['duplicate_ids', 2],
    ['five_hundred', 500],
  ] as const)(
    'passes absurd calls on as they are (%s): judging them is not its work',
    async (absurdToolCalls, count) => {
      const outcome = completed(await call(await rehearse(() => ({ absurdToolCalls })), [user('Hello')]));
      expect(outcome.output.filter((item) => item.type === 'tool_call')).toHaveLength(count);
    },
  );

  it.each([
    [{ text: 'half a', incomplete: 'max_output_tokens' }, 'max_output'],
    [{ text: 'half a', incomplete: 'content_filter' }, 'refusal'],
    [{ refusal: 'I will not.' }, 'refusal'],
  ] as const)('says why a response stopped: %j', async (answer, stop) => {
    expect(completed(await call(await rehearse(() => answer), [user('Hello')])).stop).toBe(stop);
  });
});

describe('usage', () => {
  it('splits cached tokens off, and a history that only grew is served from the cache', async () => {
    const model = await rehearse(() => ({ text: 'ok' }));
    const long = user('word '.repeat(4000));
    const first = completed(await call(model, [long]));
    const second = completed(await call(model, [long, user('more')]));
    expect(first.usage.cacheReadTokens).toBe(0);
    expect(second.usage.cacheReadTokens).toBeGreaterThan(4000);
    expect(second.usage.inputTokens).toBeLessThan(300);
    const price = priceOf('rehearsal-1');
    if (price === null) throw new Error('the rehearsal has a price');
    expect(costMicros(price, second.usage)).toBeLessThan(costMicros(price, first.usage));
  });

  it('counts tokens written to a cache apart, and never more parts than the whole', async () => {
    const usage = { inputTokens: 5000, cachedTokens: 3000, cacheWriteTokens: 9000, outputTokens: 7 };
    const outcome = completed(await call(await rehearse(() => ({ text: 'ok', usage })), [user('Hello')]));
    expect(outcome.usage).toEqual({
      inputTokens: 0,
      cacheReadTokens: 3000,
      cacheWriteTokens: 2000,
      outputTokens: 7,
    });
  });

  it('is bounded from above when the provider reports none, because unknown is not free', async () => {
    const outcome = completed(
      await call(await rehearse(() => ({ text: 'ok', usage: null })), [user('Hello')]),
    );
    expect(outcome.usage.inputTokens).toBe(peer.requests[0]?.bodyBytes);
    expect(outcome.usage.outputTokens).toBeGreaterThan(0);
  });
});

it('keeps the connection for the next call, even where the stream ends after the response did', async () => {
  const model = await rehearse(() => ({ text: 'ok', lingerMs: 20 }));
  for (const text of ['one', 'two', 'three']) completed(await call(model, [user(text)]));
  expect(new Set(peer.requests.map((request) => request.connection)).size).toBe(1);
});

it('does not wait for a peer that completes the response and never ends the stream', async () => {
  const model = await rehearse(() => ({ text: 'ok', lingerMs: 3_600_000 }));
  expect(completed(await call(model, [user('Hello')])).output[0]).toMatchObject({ text: 'ok' });
});
