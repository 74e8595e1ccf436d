// The peer's own promises: as strict as the real API, honest about its cache, the same for the same request.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Rehearsal, startRehearsal } from './peer.ts';
import type { Json, JsonObject, Script, Turn } from './script.ts';
import bashLoop from './scripts/bash-loop.ts';
import echo from './scripts/echo.ts';

let peer: Rehearsal;
afterEach(() => peer.stop());

type Answered = { status: number; body: JsonObject; text: string };

async function post(body: Json, headers: Record<string, string> = {}): Promise<Answered> {
  const response = await fetch(`${peer.url}/responses`, {
    method: 'POST',
    headers: { authorization: 'Bearer some-key', 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
  return { status: response.status, body: isJson ? (JSON.parse(text) as JsonObject) : {}, text };
}

async function start(
  script: Script,
  more: Partial<Parameters<typeof startRehearsal>[0]> = {},
): Promise<void> {
  peer = await startRehearsal({ script, ...more });
}

const user = { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Hello' }] };
const call = { type: 'function_call', call_id: 'call_1', name: 'bash', arguments: '{}' };
const result = { type: 'function_call_output', call_id: 'call_1', output: 'ok' };

function request(change: JsonObject = {}): JsonObject {
  return { model: 'rehearsal-1', input: [user], store: false, prompt_cache_key: 'k', ...change };
}

describe('a request', () => {
  it.each<[string, Json, string]>([
    ['that is no JSON', '{', 'could not parse'],
    ['with a field of its own', request({ temprature: 1 }), "Unknown parameter: 'temprature'"],
    ['named like a method of objects', request({ constructor: 1 }), "Unknown parameter: 'constructor'"],
    ['without a model', { input: 'Hello' }, "Missing required parameter: 'model'"],
    ['with a wrong type', request({ stream: 'yes' }), "Invalid type for 'stream'"],
    ['with an unknown effort', request({ reasoning: { effort: 'extreme' } }), "Invalid value: 'extreme'"],
    ['that asks for too little output', request({ max_output_tokens: 1 }), 'below minimum value'],
    [
      'with a bad tool name',
      request({ tools: [{ type: 'function', name: 'a b' }] }),
      'does not match pattern',
    ],
    [
      'with a schema that is no object',
      request({ tools: [{ type: 'function', name: 'a', parameters: { type: 'array' } }] }),
      'Invalid schema for function',
    ],
    [
      'with a call that has no output',
      request({ input: [user, call] }),
      'No tool output found for function call call_1.',
    ],
    [
      'with an output that has no call',
      request({ input: [user, result] }),
      'No tool call found for function call output',
    ],
    ['with an output before its call', request({ input: [result, call] }), 'No tool call found'],
    ['with two outputs for one call', request({ input: [call, result, result] }), 'No tool call found'],
    [
      'with a field unknown to its item',
      request({ input: [{ ...call, is_error: true }, result] }),
      'input[0].is_error',
    ],
    [
      'with a part that only a model may say',
      request({ input: [{ ...user, content: [{ type: 'output_text' }] }] }),
      'Supported values',
    ],
    [
      'with a call id over 64 characters',
      request({ input: [{ ...call, call_id: 'x'.repeat(65) }] }),
      'call_id',
    ],
    [
      'with reasoning from elsewhere',
      request({
        input: [{ type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'gAAA' }, call, result],
      }),
      'could not be verified',
    ],
    [
      'with reasoning that was to be kept on the server',
      request({ input: [{ type: 'reasoning', id: 'rs_1', summary: [] }, call, result] }),
      'Items are not persisted',
    ],
  ])('%s is refused in the words of the real API', async (_, body, message) => {
    await start(echo);
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(answer.body.error).toMatchObject({ type: 'invalid_request_error' });
    expect(JSON.stringify(answer.body.error)).toContain(JSON.stringify(message).slice(1, -1));
  });

  it('without a key, or with a wrong one, never reaches the script', async () => {
    await start(echo, { apiKey: 'right-key' });
    expect((await post(request(), { authorization: '' })).status).toBe(401);
    expect((await post(request(), { authorization: 'Bearer wrong' })).body.error).toMatchObject({
      code: 'invalid_api_key',
    });
    expect((await post(request(), { authorization: 'Bearer right-key' })).status).toBe(200);
    expect(peer.requests.map((one) => one.headers.authorization)).toEqual(['[redacted]']);
  });

  it('that separates reasoning and the item it led to is refused', async () => {
    await start(() => ({ reasoning: 'Hm.', toolCalls: [{ name: 'bash', arguments: {} }] }));
    const [reasoning, issued] = (await post(request())).body.output as [JsonObject, JsonObject];
    const output = { type: 'function_call_output', call_id: issued.call_id ?? '', output: 'ok' };
    expect((await post(request({ input: [user, reasoning, issued, output] }))).status).toBe(200);
    expect((await post(request({ input: [user, issued, output] }))).text).toContain(
      "without its required 'reasoning' item",
    );
    expect((await post(request({ input: [user, reasoning] }))).text).toContain(
      'without its required following item',
    );
  });
});

describe('a script', () => {
  it('sees what was really sent', async () => {
    let seen: Turn | null = null;
    await start((turn) => {
      seen = turn;
      return { text: 'ok' };
    });
    const second = { ...call, call_id: 'call_2', arguments: '{"command":"ls"}' };
    const outputs = [result, { ...result, call_id: 'call_2', output: [{ type: 'input_text', text: 'a' }] }];
    await post(
      request({ input: [user, call, second, ...outputs], tools: [{ type: 'function', name: 'bash' }] }),
    );
    expect(seen).toMatchObject({ step: 1, attempt: 0, userText: 'Hello', tools: ['bash'] });
    expect(seen).toMatchObject({
      toolOutputs: [{ text: 'ok' }, { text: 'a', toolName: 'bash', input: { command: 'ls' } }],
    });
  });

  it('that fails or throws is answered as 400, and the failure is kept', async () => {
    await start(() => ({ fail: 'I expected a failing test.' }));
    expect((await post(request())).body.error).toMatchObject({ message: 'I expected a failing test.' });
    peer.setScript(() => {
      throw new Error('bad script');
    });
    expect((await post(request())).status).toBe(400);
    expect(peer.failures).toEqual(['I expected a failing test.', 'The script threw: bad script']);
  });

  it('bash-loop makes its steps, whoever asks, and then stops', async () => {
    await start(bashLoop, { args: { steps: '3' } });
    const input: Json[] = [user];
    let steps = 0;
    for (; steps < 10; steps += 1) {
      const [item] = (await post(request({ input }))).body.output as JsonObject[];
      if (item?.type !== 'function_call') break;
      input.push(item, { type: 'function_call_output', call_id: item.call_id ?? '', output: '' });
    }
    expect(steps).toBe(3);
  });
});

describe('a response', () => {
  it('has the same ids for the same request, and others for another', async () => {
    await start(() => ({ reasoning: 'Hm.', toolCalls: [{ name: 'bash', arguments: {} }] }));
    const ids = (answer: Answered): Json =>
      (answer.body.output as JsonObject[]).map((item) => item.id ?? null);
    const first = await post(request());
    expect(ids(await post(request()))).toEqual(ids(first));
    expect(ids(await post(request({ prompt_cache_key: 'other' })))).not.toEqual(ids(first));
  });

  it('streams the events of the real one in their order', async () => {
    await start(() => ({ reasoning: 'Hm.', text: 'Hi', toolCalls: [{ name: 'bash', arguments: {} }] }));
    const { text } = await post(request({ stream: true }));
    const events = text
      .split('\n\n')
      .filter(Boolean)
      .map((frame) => JSON.parse(frame.split('\ndata: ')[1] ?? '') as JsonObject);
    expect(events.map((event) => event.type)).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.output_item.done',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.output_item.added',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect(events.map((event) => event.sequence_number)).toEqual(events.map((_, at) => at));
  });

  it('never counts as cached what was not sent before under the same key', async () => {
    await start(() => ({ text: 'ok' }));
    const text = 'word '.repeat(2000);
    const cached = async (change: JsonObject): Promise<Json> => {
      const { usage } = (await post(request(change))).body as { usage: JsonObject };
      return (usage.input_tokens_details as JsonObject).cached_tokens ?? null;
    };
    // `input` last, as a client that wants caching sends it.
    const first = { prompt_cache_key: 'a', input: `${text} one` };
    expect(await cached(first)).toBe(0);
    expect(await cached({ ...first, prompt_cache_key: 'b' })).toBe(0);
    const again = (await cached({ ...first, input: `${text} one, two` })) as number;
    expect(again).toBeGreaterThanOrEqual(2000);
    expect(again % 128).toBe(0);
    expect(await cached({ ...first, input: `x${text}` })).toBe(0);
    // As with the real one, a short prefix is not worth a cache.
    expect(await cached({ prompt_cache_key: 'c', input: 'word '.repeat(400) })).toBe(0);
    expect(await cached({ prompt_cache_key: 'c', input: 'word '.repeat(400) })).toBe(0);
  });
});

describe('a recording', () => {
  it('holds every request with its bytes and time, and no credential', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'rehearsal-'));
    const recordPath = join(directory, 'requests.jsonl');
    await start(echo, { recordPath, keepBodies: 1 });
    await post(request());
    await post(request({ input: 'Again' }));
    await peer.stop();
    const lines = readFileSync(recordPath, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as JsonObject);
    rmSync(directory, { recursive: true });
    expect(lines).toHaveLength(2);
    expect(JSON.parse(String(lines[1]?.body))).toMatchObject({ input: 'Again' });
    expect(lines[1]?.serviceMs).toBeGreaterThan(0);
    expect(JSON.stringify(lines)).not.toContain('some-key');
    expect(peer.requests.map((one) => one.body === null)).toEqual([true, false]);
    await start(echo);
  });
});
