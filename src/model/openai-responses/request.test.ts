import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ContentBlock } from '../../protocol/content.ts';
import type { Json, JsonObject } from '../../protocol/json.ts';
import type { HistoryItem, OutputItem, RequestPrefix } from '../../session/model-request.ts';
import type { RenderedRequest } from '../model.ts';
import { createRenderer, renderRequest, wire } from './request.ts';

const origin = { provider: 'openai' };

const prefix: RequestPrefix = {
  model: 'gpt-6.1-sol',
  effort: 'xhigh',
  instructions: 'Be exact.',
  tools: [],
  maxOutputTokens: null,
  cacheKey: 'k',
};

function textOf(rendered: RenderedRequest): string {
  return Buffer.concat(rendered.body).toString('utf8');
}

function bodyOf(rendered: RenderedRequest): JsonObject {
  return JSON.parse(textOf(rendered)) as JsonObject;
}

function inputOf(history: HistoryItem[], change: Partial<RequestPrefix> = {}): Json {
  return bodyOf(renderRequest({ prefix: { ...prefix, ...change }, history }, origin)).input ?? null;
}

function response(
  items: Json[],
  output: OutputItem[],
  from: Partial<{ provider: string; wire: string; model: string }> = {},
): HistoryItem {
  return { type: 'response', provider: 'openai', wire, model: prefix.model, items, output, ...from };
}

const schema: fc.Arbitrary<JsonObject> = fc
  .tuple(fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 4 }), fc.nat(4))
  .map(([names, count]) => ({
    type: 'object',
    required: names.slice(0, count),
    properties: Object.fromEntries(names.map((name) => [name, { type: 'string' }])),
  }));
const string = fc.string({ unit: 'grapheme', maxLength: 12 });
const json = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<Json>;
const object = fc.dictionary(string, json, { maxKeys: 4, noNullPrototype: true }) as fc.Arbitrary<JsonObject>;
const block: fc.Arbitrary<ContentBlock> = fc.oneof(
  string.map((text): ContentBlock => ({ type: 'text', text })),
  string.map(
    (data): ContentBlock => ({ type: 'image', source: { type: 'base64', media_type: 'image/png', data } }),
  ),
  string.map(
    (data): ContentBlock => ({ type: 'document', source: { type: 'text', media_type: 'text/plain', data } }),
  ),
);
const output: fc.Arbitrary<OutputItem> = fc.oneof(
  fc.constant<OutputItem>({ type: 'reasoning' }),
  string.map((text): OutputItem => ({ type: 'message', text })),
  fc.tuple(string, string, string).map(([providerCallId, name, rawInput]): OutputItem => {
    return { type: 'tool_call', providerCallId, name, input: null, rawInput };
  }),
);
const item: fc.Arbitrary<HistoryItem> = fc.oneof(
  fc.array(block, { maxLength: 3 }).map((content): HistoryItem => ({ type: 'user', content })),
  fc
    .tuple(string, fc.array(block, { maxLength: 3 }), fc.boolean())
    .map(([providerCallId, content, isError]): HistoryItem => {
      return { type: 'tool_result', providerCallId, content, isError };
    }),
  fc
    .tuple(
      fc.array(object, { maxLength: 3 }),
      fc.array(output, { maxLength: 3 }),
      fc.constantFrom('openai', 'other'),
    )
    .map(([items, neutral, provider]) => response(items, neutral, { provider })),
);
const history = fc.array(item, { maxLength: 12 });
const prefixes: fc.Arbitrary<RequestPrefix> = fc.record({
  model: fc.constantFrom('gpt-6.1-sol', 'gpt-4.1'),
  effort: fc.constantFrom(null, 'low', 'max'),
  instructions: string,
  tools: fc.array(fc.record({ name: string, description: string, inputSchema: fc.oneof(object, schema) }), {
    maxLength: 3,
  }),
  maxOutputTokens: fc.constantFrom(null, 4096),
  cacheKey: string,
});

describe('a rendered request', () => {
  it('fails on the first changed byte of a prefix: a longer history only adds before the closing brackets', () => {
    fc.assert(
      fc.property(prefixes, history, history, (start, first, more) => {
        const shorter = textOf(renderRequest({ prefix: start, history: first }, origin));
        const longer = textOf(renderRequest({ prefix: start, history: [...first, ...more] }, origin));
        const tail = start.maxOutputTokens === null ? ']}' : '],"max_output_tokens":4096}';
        expect(shorter.endsWith(tail)).toBe(true);
        expect(longer.startsWith(shorter.slice(0, -tail.length))).toBe(true);
      }),
    );
  });

  it('is valid JSON with the hash of exactly its bytes', () => {
    fc.assert(
      fc.property(prefixes, history, (start, items) => {
        const rendered = renderRequest({ prefix: start, history: items }, origin);
        const body = bodyOf(rendered);
        expect(
          Object.keys(body)
            .filter((name) => name !== 'max_output_tokens')
            .at(-1),
        ).toBe('input');
        expect(rendered.sha256).toBe(createHash('sha256').update(Buffer.concat(rendered.body)).digest('hex'));
      }),
    );
  });

  it('is the same from a renderer that saw any histories before, grown, cut or replaced', () => {
    fc.assert(
      fc.property(
        prefixes,
        history,
        fc.array(fc.tuple(fc.nat(12), history), { maxLength: 6 }),
        (start, first, changes) => {
          const renderer = createRenderer(start, origin);
          const given: RenderedRequest[] = [];
          let current = first;
          for (const [keep, added] of [[first.length, []] as [number, HistoryItem[]], ...changes]) {
            current = [...current.slice(0, keep), ...added];
            const incremental = renderer.render(current);
            const oneShot = renderRequest({ prefix: start, history: structuredClone(current) }, origin);
            expect(textOf(incremental)).toBe(textOf(oneShot));
            expect(incremental.sha256).toBe(oneShot.sha256);
            given.push(incremental);
          }
          // A call may still be sending what was rendered before.
          for (const { body, sha256 } of given) {
            expect(createHash('sha256').update(Buffer.concat(body)).digest('hex')).toBe(sha256);
          }
        },
      ),
    );
  });

  it('does not change when a store gives objects back with their keys in another order', () => {
    const reversed = (value: Json): Json => {
      if (Array.isArray(value)) return value.map(reversed);
      if (value === null || typeof value !== 'object') return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, member]) => [key, reversed(member)]),
      );
    };
    fc.assert(
      fc.property(prefixes, history, (start, items) => {
        const again = reversed(structuredClone({ prefix: start, history: items }) as unknown as Json);
        const { prefix: otherStart, history: otherItems } = again as unknown as {
          prefix: RequestPrefix;
          history: HistoryItem[];
        };
        expect(renderRequest({ prefix: otherStart, history: otherItems }, origin).sha256).toBe(
          renderRequest({ prefix: start, history: items }, origin).sha256,
        );
      }),
    );
  });

  it('serialises only what is new, however long the history is', () => {
    const reads = { count: 0 };
    const counting = (text: string): HistoryItem => ({
      type: 'user',
      get content(): ContentBlock[] {
        reads.count += 1;
        return [{ type: 'text', text }];
      },
    });
    const renderer = createRenderer(prefix, origin);
    const items = Array.from({ length: 1000 }, (_, at) => counting(`message ${at}`));
    renderer.render(items);
    reads.count = 0;
    renderer.render([...items, counting('new'), counting('newer')]);
    expect(reads.count).toBe(2);
  });
});

describe('the constant part', () => {
  it('keeps nothing on the provider’s side and asks for reasoning that can be sent back', () => {
    const body = bodyOf(renderRequest({ prefix: { ...prefix, maxOutputTokens: 2048 }, history: [] }, origin));
    expect(body).toEqual({
      model: 'gpt-6.1-sol',
      instructions: 'Be exact.',
      tools: [],
      parallel_tool_calls: true,
      reasoning: { effort: 'xhigh' },
      max_output_tokens: 2048,
      prompt_cache_key: 'k',
      include: ['reasoning.encrypted_content'],
      store: false,
      stream: true,
      input: [],
    });
  });

  it('does not ask a model without reasoning for reasoning, which answers 400', () => {
    const body = bodyOf(
      renderRequest({ prefix: { ...prefix, model: 'gpt-4.1', effort: null }, history: [] }, origin),
    );
    expect(body).not.toHaveProperty('include');
    expect(body).not.toHaveProperty('reasoning');
  });

  it('offers required inputs in the order of the schema, so that no model writes the new text before the old', () => {
    const inputSchema: JsonObject = {
      type: 'object',
      required: ['file_path', 'old_string', 'new_string'],
      properties: { a: {}, new_string: { type: 'string' }, old_string: {}, file_path: {} },
    };
    const text = textOf(
      renderRequest(
        { prefix: { ...prefix, tools: [{ name: 'edit', description: 'Edits.', inputSchema }] }, history: [] },
        origin,
      ),
    );
    expect(text).toContain(
      '"properties":{"file_path":{},"old_string":{},"new_string":{"type":"string"},"a":{}}',
    );
    expect(text).toContain('"strict":false');
  });
});

describe('a limit for one call', () => {
  it('never changes a byte before the end of the history, and never allows more than the prefix does', () => {
    const renderer = createRenderer({ ...prefix, maxOutputTokens: 1000 }, origin);
    const history: HistoryItem[] = [{ type: 'user', content: [{ type: 'text', text: 'Hello' }] }];
    const free = textOf(renderer.render(history));
    const clamped = textOf(renderer.render(history, { maxOutputTokens: 200 }));
    expect(clamped).toBe(free.replace('"max_output_tokens":1000', '"max_output_tokens":200'));
    expect(textOf(renderer.render(history, { maxOutputTokens: 5000 }))).toBe(free);
    expect(
      bodyOf(renderRequest({ prefix, history }, origin, { maxOutputTokens: 64 })).max_output_tokens,
    ).toBe(64);
  });
});

describe('history items', () => {
  const items: Json[] = [
    { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'secret' },
    {
      type: 'function_call',
      id: 'fc_1',
      call_id: 'call_1',
      name: 'bash',
      arguments: '{}',
      status: 'completed',
    },
    { type: 'something_of_2027', id: 'x_1', payload: { deep: [1, 2] } },
  ];
  const neutral: OutputItem[] = [
    { type: 'reasoning' },
    { type: 'tool_call', providerCallId: 'call_1', name: 'bash', input: {}, rawInput: '{}' },
  ];

  it('go back verbatim to the same provider, wire and model, unknown types included', () => {
    expect(inputOf([response(items, neutral)])).toEqual(items);
  });

  it('never carry encrypted reasoning or foreign items to another provider, wire or model', () => {
    const rebuilt = [{ type: 'function_call', call_id: 'call_1', name: 'bash', arguments: '{}' }];
    for (const from of [{ provider: 'other' }, { wire: 'anthropic-messages' }, { model: 'gpt-6-sol' }]) {
      expect(inputOf([response(items, neutral, from)])).toEqual(rebuilt);
    }
    expect(inputOf([response(items, neutral)], { model: 'gpt-6-astra' })).toEqual(rebuilt);
  });

  it('never end with reasoning that nothing follows, as a response cut at its limit does', () => {
    expect(inputOf([response([items[0] as Json], [{ type: 'reasoning' }])])).toEqual([]);
    const cut = inputOf([response([items[1] as Json, items[0] as Json], neutral)]);
    expect(cut).toEqual([items[1]]);
  });

  it('keep a foreign call and its result together when the id is longer than the API takes', () => {
    const providerCallId = 'toolu_'.padEnd(100, 'x');
    const foreign: OutputItem = {
      type: 'tool_call',
      providerCallId,
      name: 'mcp.server/tool',
      input: {},
      rawInput: '{}',
    };
    const result: HistoryItem = {
      type: 'tool_result',
      providerCallId,
      content: [{ type: 'text', text: 'ok' }],
      isError: false,
    };
    const [call, sent] = inputOf([response([], [foreign], { provider: 'other' }), result]) as JsonObject[];
    expect(call?.call_id).toBe(sent?.call_id);
    expect(String(call?.call_id).length).toBeLessThanOrEqual(64);
    expect(call?.name).toMatch(/^[a-zA-Z0-9_-]{1,64}$/);
  });

  it('never hold half a surrogate pair, with which a cut output would wedge the session for good', () => {
    const cut: ContentBlock = { type: 'text', text: 'smile \ud83d' };
    const history: HistoryItem[] = [
      { type: 'user', content: [cut] },
      { type: 'tool_result', providerCallId: 'call_1', content: [cut], isError: false },
    ];
    expect(JSON.stringify(inputOf(history))).not.toContain('\\ud83d');
    expect(JSON.stringify(inputOf(history)).match(/smile \ufffd/g)).toHaveLength(2);
  });

  it('map images and documents, and mark errors in words', () => {
    const image: ContentBlock = {
      type: 'image',
      source: { type: 'base64', media_type: 'image/png', data: 'AAAA' },
    };
    const document: ContentBlock = {
      type: 'document',
      title: 'Notes',
      context: 'From the wiki.',
      source: { type: 'text', media_type: 'text/plain', data: 'Text.' },
    };
    const text: ContentBlock = { type: 'text', text: 'no such file' };
    expect(
      inputOf([
        {
          type: 'user',
          content: [
            image,
            { type: 'image', source: { type: 'url', url: 'https://example.com/a.png' } },
            document,
          ],
        },
        { type: 'tool_result', providerCallId: 'call_1', content: [text], isError: true },
        { type: 'tool_result', providerCallId: 'call_2', content: [text, image], isError: false },
        { type: 'tool_result', providerCallId: 'call_3', content: [], isError: false },
      ]),
    ).toEqual([
      {
        type: 'message',
        role: 'user',
        content: [
          { type: 'input_image', detail: 'auto', image_url: 'data:image/png;base64,AAAA' },
          { type: 'input_image', detail: 'auto', image_url: 'https://example.com/a.png' },
          { type: 'input_text', text: '<document title="Notes">\nFrom the wiki.\nText.\n</document>' },
        ],
      },
      { type: 'function_call_output', call_id: 'call_1', output: '[error]\nno such file' },
      {
        type: 'function_call_output',
        call_id: 'call_2',
        output: [
          { type: 'input_text', text: 'no such file' },
          { type: 'input_image', detail: 'auto', image_url: 'data:image/png;base64,AAAA' },
        ],
      },
      { type: 'function_call_output', call_id: 'call_3', output: '' },
    ]);
  });
});
