/**
 * Refuses what the real API refuses, in its words: a client that only works against a lenient peer does not work.
 * Pure but for `issued`, which knows what this peer handed out.
 */
import type { Json, JsonObject } from './script.ts';

export type Refusal = { message: string; param: string | null; code: string | null };

export type Issued = {
  /** Whether an encrypted content came from here and is unchanged. */
  isOurs(encrypted: string): boolean;
  /** The reasoning item that an item of ours must come after, where there is one. */
  reasoningOf(itemId: string): string | null;
};

const fieldTypes: Readonly<Record<string, (value: Json) => boolean>> = {
  model: isString,
  input: (value) => isString(value) || Array.isArray(value),
  instructions: orNull(isString),
  tools: Array.isArray,
  tool_choice: (value) => isString(value) || isObject(value),
  parallel_tool_calls: orNull(isBoolean),
  reasoning: orNull(isObject),
  max_output_tokens: orNull(isInteger),
  max_tool_calls: orNull(isInteger),
  metadata: orNull(isObject),
  prompt_cache_key: orNull(isString),
  prompt_cache_retention: orNull(isString),
  prompt_cache_options: isObject,
  include: orNull(Array.isArray),
  store: orNull(isBoolean),
  stream: orNull(isBoolean),
  stream_options: orNull(isObject),
  temperature: orNull(isNumber),
  top_p: orNull(isNumber),
  text: isObject,
  truncation: orNull(isString),
  safety_identifier: orNull(isString),
  service_tier: orNull(isString),
};

const efforts = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'];
const toolNamePattern = /^[a-zA-Z0-9_-]{1,64}$/;
const callIdLimit = 64;
const cacheKeyLimit = 64;
const leastOutputTokens = 16;

const itemFields: Readonly<Record<string, readonly string[]>> = {
  message: ['type', 'id', 'role', 'content', 'status', 'phase'],
  reasoning: ['type', 'id', 'summary', 'content', 'encrypted_content', 'status'],
  function_call: ['type', 'id', 'call_id', 'name', 'arguments', 'status', 'namespace', 'caller', 'async'],
  function_call_output: ['type', 'id', 'call_id', 'output', 'status', 'name', 'namespace', 'caller'],
};

const partTypes: Readonly<Record<string, readonly string[]>> = {
  user: ['input_text', 'input_image', 'input_file'],
  developer: ['input_text', 'input_image', 'input_file'],
  system: ['input_text', 'input_image', 'input_file'],
  assistant: ['output_text', 'refusal'],
};

export function validate(body: Json, issued: Issued): Refusal | null {
  if (!isObject(body)) return refusal('The request body must be a JSON object.', null);
  return (
    checkFields(body) ??
    checkSettings(body) ??
    checkTools(Array.isArray(body.tools) ? body.tools : []) ??
    (Array.isArray(body.input) ? checkInput(body.input, issued) : null)
  );
}

function checkFields(body: JsonObject): Refusal | null {
  for (const [name, value] of Object.entries(body)) {
    const isType = Object.hasOwn(fieldTypes, name) ? fieldTypes[name] : undefined;
    if (isType === undefined) return refusal(`Unknown parameter: '${name}'.`, name, 'unknown_parameter');
    if (!isType(value)) return refusal(`Invalid type for '${name}'.`, name, 'invalid_type');
  }
  for (const name of ['model', 'input']) {
    if (body[name] === undefined) {
      return refusal(`Missing required parameter: '${name}'.`, name, 'missing_required_parameter');
    }
  }
  return null;
}

function checkSettings(body: JsonObject): Refusal | null {
  const effort = isObject(body.reasoning ?? null) ? (body.reasoning as JsonObject).effort : null;
  if (isString(effort ?? null) && !efforts.includes(effort as string)) {
    return refusal(`Invalid value: '${String(effort)}'.`, 'reasoning.effort', 'invalid_value');
  }
  if (isInteger(body.max_output_tokens ?? null) && Number(body.max_output_tokens) < leastOutputTokens) {
    const text = `Invalid 'max_output_tokens': integer below minimum value. Expected a value >= ${leastOutputTokens}.`;
    return refusal(text, 'max_output_tokens', 'integer_below_min_value');
  }
  if (isString(body.prompt_cache_key ?? null) && String(body.prompt_cache_key).length > cacheKeyLimit) {
    const text = `Invalid 'prompt_cache_key': string too long. Expected a string with maximum length ${cacheKeyLimit}.`;
    return refusal(text, 'prompt_cache_key', 'string_above_max_length');
  }
  return null;
}

function checkTools(tools: readonly Json[]): Refusal | null {
  for (const [at, tool] of tools.entries()) {
    const where = `tools[${at}]`;
    if (!isObject(tool) || !isString(tool.type ?? null))
      return refusal(`Invalid value at '${where}'.`, where);
    if (tool.type !== 'function') continue;
    if (!isString(tool.name ?? null))
      return refusal(`Missing required parameter: '${where}.name'.`, `${where}.name`);
    if (!toolNamePattern.test(String(tool.name))) {
      return refusal(
        `Invalid '${where}.name': string does not match pattern.`,
        `${where}.name`,
        'invalid_value',
      );
    }
    if (isObject(tool.parameters ?? null) && (tool.parameters as JsonObject).type !== 'object') {
      const text = `Invalid schema for function '${String(tool.name)}': schema must be a JSON Schema of 'type: "object"'.`;
      return refusal(text, `${where}.parameters`, 'invalid_function_parameters');
    }
  }
  return null;
}

function checkInput(input: readonly Json[], issued: Issued): Refusal | null {
  const idsBefore = new Set<string>();
  for (const [at, item] of input.entries()) {
    const problem =
      checkItem(item, `input[${at}]`, issued) ?? checkPlace(item, input[at + 1] ?? null, idsBefore, issued);
    if (problem !== null) return problem;
    if (isObject(item)) idsBefore.add(String(item.id));
  }
  return checkPairs(input.filter(isObject));
}

function checkItem(item: Json, where: string, issued: Issued): Refusal | null {
  if (!isObject(item))
    return refusal(`Invalid type for '${where}': expected an object.`, where, 'invalid_type');
  const type = item.type ?? 'message';
  const fields = isString(type) && Object.hasOwn(itemFields, type) ? itemFields[type] : undefined;
  // Item types that we do not know come from hosted tools, or from `extraItems` of a script.
  if (fields === undefined) return null;
  for (const name of Object.keys(item)) {
    if (!fields.includes(name)) {
      return refusal(`Unknown parameter: '${where}.${name}'.`, `${where}.${name}`, 'unknown_parameter');
    }
  }
  if (type === 'message') return checkMessage(item, where);
  if (type === 'reasoning') return checkReasoning(item, where, issued);
  const callId = item.call_id ?? null;
  if (!isString(callId) || callId === '' || callId.length > callIdLimit) {
    return refusal(`Invalid '${where}.call_id': expected a string of 1 to ${callIdLimit} characters.`, where);
  }
  if (type === 'function_call' && !isString(item.arguments ?? null)) {
    return refusal(`Missing required parameter: '${where}.arguments'.`, `${where}.arguments`);
  }
  if (type === 'function_call_output' && !isString(item.output ?? null) && !Array.isArray(item.output)) {
    return refusal(`Missing required parameter: '${where}.output'.`, `${where}.output`);
  }
  return null;
}

function checkMessage(item: JsonObject, where: string): Refusal | null {
  const role = item.role;
  const allowed =
    isString(role ?? null) && Object.hasOwn(partTypes, String(role)) ? partTypes[String(role)] : undefined;
  if (allowed === undefined)
    return refusal(`Invalid value: '${String(role)}'.`, `${where}.role`, 'invalid_value');
  if (isString(item.content ?? null)) return null;
  if (!Array.isArray(item.content))
    return refusal(`Invalid type for '${where}.content'.`, `${where}.content`);
  for (const [at, part] of item.content.entries()) {
    const type = isObject(part) ? part.type : undefined;
    if (!isString(type ?? null) || !allowed.includes(String(type))) {
      const place = `${where}.content[${at}]`;
      const values = allowed.map((name) => `'${name}'`).join(', ');
      return refusal(
        `Invalid value: '${String(type)}'. Supported values are: ${values}.`,
        place,
        'invalid_value',
      );
    }
  }
  return null;
}

function checkReasoning(item: JsonObject, where: string, issued: Issued): Refusal | null {
  if (!Array.isArray(item.summary)) return refusal(`Missing required parameter: '${where}.summary'.`, where);
  const encrypted = item.encrypted_content ?? null;
  if (encrypted === null) {
    const text = `Item with id '${String(item.id)}' not found. Items are not persisted when \`store\` is set to false.`;
    return refusal(text, 'input');
  }
  if (isString(encrypted) && issued.isOurs(encrypted)) return null;
  const text = `The encrypted content for item ${String(item.id)} could not be verified.`;
  return refusal(text, null, 'invalid_encrypted_content');
}

/** Reasoning and the item it led to come together, or not at all. */
function checkPlace(item: Json, next: Json, idsBefore: ReadonlySet<string>, issued: Issued): Refusal | null {
  if (!isObject(item)) return null;
  const { type, id } = item;
  if (type === 'reasoning') {
    const follows =
      isObject(next) &&
      next.type !== 'function_call_output' &&
      !(next.type === 'message' && next.role !== 'assistant');
    if (follows) return null;
    return refusal(
      `Item '${String(id)}' of type 'reasoning' was provided without its required following item.`,
      'input',
    );
  }
  const needed = isString(id ?? null) ? issued.reasoningOf(String(id)) : null;
  if (needed === null || idsBefore.has(needed)) return null;
  const text = `Item '${String(id)}' of type '${String(type)}' was provided without its required 'reasoning' item: '${needed}'.`;
  return refusal(text, 'input');
}

function checkPairs(items: readonly JsonObject[]): Refusal | null {
  const open = new Map<string, number>();
  for (const item of items) {
    const callId = String(item.call_id);
    const count = open.get(callId) ?? 0;
    if (item.type === 'function_call') open.set(callId, count + 1);
    if (item.type !== 'function_call_output') continue;
    if (count === 0)
      return refusal(`No tool call found for function call output with call_id ${callId}.`, 'input');
    open.set(callId, count - 1);
  }
  for (const [callId, count] of open) {
    if (count > 0) return refusal(`No tool output found for function call ${callId}.`, 'input');
  }
  return null;
}

function refusal(message: string, param: string | null, code: string | null = null): Refusal {
  return { message, param, code };
}

function orNull(check: (value: Json) => boolean): (value: Json) => boolean {
  return (value) => value === null || check(value);
}

function isString(value: Json): value is string {
  return typeof value === 'string';
}

function isBoolean(value: Json): boolean {
  return typeof value === 'boolean';
}

function isNumber(value: Json): boolean {
  return typeof value === 'number';
}

function isInteger(value: Json): boolean {
  return Number.isInteger(value);
}

function isObject(value: Json): value is JsonObject {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}
