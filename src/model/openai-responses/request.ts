/**
 * Renders a request to the exact body bytes of `POST /v1/responses`.
 *
 * Promises kept here
 * - L7: rendering is pure, and prefix-stable: everything constant comes first and `input` last, so that a longer
 *   history is a byte-extension of a shorter one up to the closing `]}`. Prompt caches depend on it.
 * - G3: only a limit on output stands behind `input`, because it may change from call to call.
 * - L7: bytes do not depend on the key order in which a database gives an item back; every object is written in
 *   canonical order. Only the properties of a tool's input follow the schema's own `required` first, because models
 *   write arguments in the order in which they read about them, and `required` is an array that no store reorders.
 * - Items go back as they came only to the same provider, wire and model; encrypted reasoning means nothing elsewhere.
 *
 * Every history item is rendered without a look at later ones. That is what makes the incremental renderer possible:
 * a history that grew by k items costs k serialisations, whatever its length.
 */
import { createHash } from 'node:crypto';
import type { ContentBlock } from '../../protocol/content.ts';
import { canonicalJson, type Json, type JsonObject } from '../../protocol/json.ts';
import type { HistoryItem, ModelRequest, OutputItem, RequestPrefix } from '../../session/model-request.ts';
import type { CallLimits, RenderedRequest } from '../model.ts';

export const wire = 'openai-responses';

/** Whose items may be sent back verbatim: they must come from this provider, over this wire, from the same model. */
export type Origin = { provider: string };

export interface Renderer {
  render(history: Iterable<HistoryItem>, limits?: CallLimits): RenderedRequest;
}

const leastBufferBytes = 16 * 1024;
const growth = 1.5;
const callIdLimit = 64;

/** The one-shot form. Pure; byte-identical to what a renderer gives for the same request. */
export function renderRequest(request: ModelRequest, origin: Origin, limits?: CallLimits): RenderedRequest {
  return createRenderer(request.prefix, origin).render(request.history, limits);
}

/**
 * Keeps what it rendered. A history whose first items are the very same objects as last time costs only what is new;
 * anything else (a compaction, another fold) is rendered from the first item that differs.
 *
 * All bytes stand in one buffer that only grows, so that no call copies them: a body is a view of its front. Bytes that
 * a view may show are never written again; where history changes, the equal front moves to a buffer of its own.
 */
export function createRenderer(prefix: RequestPrefix, origin: Origin): Renderer {
  const head = Buffer.from(renderHead(prefix));
  const items: HistoryItem[] = [];
  /** Where each item ends in the buffer. */
  const ends: number[] = [];
  let buffer = Buffer.allocUnsafe(Math.max(leastBufferBytes, head.length * 2));
  let end = head.copy(buffer);
  let hash = createHash('sha256').update(head);

  function append(item: HistoryItem): void {
    const texts = renderItem(item, prefix, origin);
    if (texts.length > 0) {
      const text = `${end > head.length ? ',' : ''}${texts.join(',')}`;
      const start = end;
      end += Buffer.byteLength(text);
      if (end > buffer.length) buffer = grown(buffer, start, end);
      buffer.write(text, start);
      hash.update(buffer.subarray(start, end));
    }
    items.push(item);
    ends.push(end);
  }

  function truncate(length: number): void {
    items.length = length;
    ends.length = length;
    end = ends.at(-1) ?? head.length;
    buffer = grown(buffer, end, end);
    hash = createHash('sha256').update(buffer.subarray(0, end));
  }

  return {
    render(history, limits) {
      let count = 0;
      for (const item of history) {
        if (count < items.length && items[count] !== item) truncate(count);
        if (count === items.length) append(item);
        count += 1;
      }
      if (count < items.length) truncate(count);
      const tail = Buffer.from(renderTail(prefix, limits));
      const sha256 = hash.copy().update(tail).digest('hex');
      return { body: [buffer.subarray(0, end), tail], sha256 };
    },
  };
}

/** A new buffer with the first `length` bytes of this one, and room for more than `needed`. */
function grown(buffer: Buffer, length: number, needed: number): Buffer<ArrayBuffer> {
  const larger = Buffer.allocUnsafe(Math.max(leastBufferBytes, Math.ceil(needed * growth)));
  buffer.copy(larger, 0, 0, length);
  return larger;
}

function renderHead(prefix: RequestPrefix): string {
  const members: [string, string][] = [
    ['model', JSON.stringify(prefix.model)],
    ['instructions', JSON.stringify(prefix.instructions)],
    ['tools', `[${prefix.tools.map(renderTool).join(',')}]`],
    ['parallel_tool_calls', 'true'],
  ];
  if (prefix.effort !== null) members.push(['reasoning', canonicalJson({ effort: prefix.effort })]);
  members.push(['prompt_cache_key', JSON.stringify(prefix.cacheKey)]);
  if (reasons(prefix.model)) members.push(['include', '["reasoning.encrypted_content"]']);
  members.push(['store', 'false'], ['stream', 'true']);
  return `{${members.map(([name, value]) => `"${name}":${value}`).join(',')},"input":[`;
}

function renderTail(prefix: RequestPrefix, limits: CallLimits | undefined): string {
  const allowed = [prefix.maxOutputTokens, limits?.maxOutputTokens ?? null].filter((limit) => limit !== null);
  return allowed.length === 0 ? ']}' : `],"max_output_tokens":${Math.min(...allowed)}}`;
}

/** Models before the reasoning ones answer 400 to a request for encrypted reasoning. */
function reasons(model: string): boolean {
  return !/^(gpt-3|gpt-4|chatgpt-)/.test(model);
}

function renderTool(tool: RequestPrefix['tools'][number]): string {
  const description = JSON.stringify(tool.description);
  const parameters = schemaJson(tool.inputSchema);
  return `{"type":"function","name":${JSON.stringify(tool.name)},"description":${description},"strict":false,"parameters":${parameters}}`;
}

/** Canonical JSON, except that the members of `properties` come in the order of `required`, then the rest sorted. */
function schemaJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(schemaJson).join(',')}]`;
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const members = Object.keys(value)
    .sort()
    .map((key) => {
      const member = value[key] as Json;
      const text =
        key === 'properties' && isObject(member)
          ? propertiesJson(member, value.required)
          : schemaJson(member);
      return `${JSON.stringify(key)}:${text}`;
    });
  return `{${members.join(',')}}`;
}

function propertiesJson(properties: JsonObject, required: Json | undefined): string {
  const first = Array.isArray(required)
    ? [...new Set(required)].filter(
        (name): name is string => typeof name === 'string' && Object.hasOwn(properties, name),
      )
    : [];
  const rest = Object.keys(properties)
    .filter((name) => !first.includes(name))
    .sort();
  const members = [...first, ...rest].map(
    (name) => `${JSON.stringify(name)}:${schemaJson(properties[name] as Json)}`,
  );
  return `{${members.join(',')}}`;
}

function isObject(value: Json): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** The input items of one history item, each as JSON text. */
function renderItem(item: HistoryItem, prefix: RequestPrefix, origin: Origin): string[] {
  switch (item.type) {
    case 'user':
      return [canonicalJson({ type: 'message', role: 'user', content: item.content.map(inputPart) })];
    case 'tool_result':
      return [
        canonicalJson({
          type: 'function_call_output',
          call_id: wireCallId(item.providerCallId),
          output: toolOutput(item.content, item.isError),
        }),
      ];
    case 'response': {
      const isOwn = item.provider === origin.provider && item.wire === wire && item.model === prefix.model;
      if (isOwn) return withoutLooseReasoning(item.items).map(canonicalJson);
      return item.output.flatMap(rebuild).map(canonicalJson);
    }
  }
}

/** The API refuses reasoning that nothing follows, as a response cut at its output limit leaves it. */
function withoutLooseReasoning(items: readonly Json[]): Json[] {
  const last = items.findLastIndex((item) => !isObject(item) || item.type !== 'reasoning');
  return items.slice(0, last + 1);
}

/** What a foreign response means here. Reasoning is dropped: nobody else can read it. */
function rebuild(output: OutputItem): JsonObject[] {
  switch (output.type) {
    case 'reasoning':
      return [];
    case 'message':
      return [assistantMessage({ type: 'output_text', text: output.text })];
    case 'refusal':
      return [assistantMessage({ type: 'refusal', refusal: output.text })];
    case 'tool_call':
      return [
        {
          type: 'function_call',
          call_id: wireCallId(output.providerCallId),
          name: wireToolName(output.name),
          arguments: output.rawInput,
        },
      ];
  }
}

function assistantMessage(part: JsonObject): JsonObject {
  return { type: 'message', role: 'assistant', content: [part] };
}

/** The API refuses call ids over 64 characters; other wires issue longer ones. Calls and results agree by the hash. */
function wireCallId(id: string): string {
  if (id.length > 0 && id.length <= callIdLimit) return id;
  return `call_${createHash('sha256').update(id).digest('hex').slice(0, 40)}`;
}

/** A name that some model made up elsewhere may not pass the API's pattern; it stands in a past call only. */
function wireToolName(name: string): string {
  const cleaned = name.replaceAll(/[^a-zA-Z0-9_-]/g, '_').slice(0, callIdLimit);
  return cleaned === '' ? '_' : cleaned;
}

function inputPart(block: ContentBlock): JsonObject {
  switch (block.type) {
    case 'text':
      // Half a surrogate pair, as a cut output may end in, is refused by the API; and history cannot be unsent.
      return { type: 'input_text', text: block.text.toWellFormed() };
    case 'image':
      return {
        type: 'input_image',
        detail: 'auto',
        image_url:
          block.source.type === 'url'
            ? block.source.url
            : `data:${block.source.media_type};base64,${block.source.data}`,
      };
    case 'document':
      return { type: 'input_text', text: documentText(block).toWellFormed() };
  }
}

/** Documents are text; as text every model can read them, where files need one that takes files. */
function documentText(block: Extract<ContentBlock, { type: 'document' }>): string {
  const title = block.title === undefined ? '' : ` title=${JSON.stringify(block.title)}`;
  const context = block.context === undefined ? '' : `${block.context}\n`;
  return `<document${title}>\n${context}${block.source.data}\n</document>`;
}

/** One text is a string, as everyone sends it; anything else is a list of parts. The wire has no error flag. */
function toolOutput(content: readonly ContentBlock[], isError: boolean): Json {
  const blocks: ContentBlock[] = isError ? [{ type: 'text', text: '[error]' }, ...content] : [...content];
  if (blocks.every((block) => block.type === 'text')) {
    return blocks
      .map((block) => block.text)
      .join('\n')
      .toWellFormed();
  }
  return blocks.map(inputPart);
}
