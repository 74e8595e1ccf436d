/**
 * Client (custom) tools of an agent definition: are they acceptable, and how a model sees them
 * (managed-agents-protocol.md §7.3). The client runs them; nothing here does.
 *
 * Every problem is found at once and named by its path, so that a person can mend a definition in one go.
 */
import type { Json, JsonObject } from '../protocol/json.ts';
import { canonicalJson } from '../protocol/json.ts';
import type { ToolSchema } from '../session/model-request.ts';
import { builtinTools } from './toolset.ts';

export type CustomTool = { type: 'custom'; name: string; description: string; input_schema: JsonObject };

export type CustomToolError = { path: string; message: string };

export type CustomToolCheck = { ok: true; tools: CustomTool[] } | { ok: false; errors: CustomToolError[] };

/** Names that the web tools of the toolset have or will have, besides those that are built in here. */
const reservedNames = new Set(['web_fetch', 'web_search']);
const maxSchemaBytes = 64 * 1024;
const maxSchemaDepth = 32;
const maxProblems = 50;

/** `definitions` as they came in; `path` is where the list is in the request, such as `tools`. */
export function checkCustomTools(definitions: readonly Json[], path: string): CustomToolCheck {
  const errors: CustomToolError[] = [];
  const names = new Set<string>();
  definitions.forEach((definition, index) => {
    const here = `${path}[${index}]`;
    errors.push(...checkOne(definition, here));
    const name = isObject(definition) ? definition.name : undefined;
    if (typeof name !== 'string') return;
    if (names.has(name))
      errors.push({ path: `${here}.name`, message: `another custom tool is named ${name}` });
    names.add(name);
  });
  if (errors.length > 0) return { ok: false, errors: errors.slice(0, maxProblems) };
  return { ok: true, tools: definitions as CustomTool[] };
}

export function customToolSchema(tool: CustomTool): ToolSchema {
  return { name: tool.name, description: tool.description, inputSchema: tool.input_schema };
}

function checkOne(definition: Json, path: string): CustomToolError[] {
  if (!isObject(definition)) return [{ path, message: 'must be an object' }];
  const { name, description, input_schema: schema } = definition;
  const known = ['type', 'name', 'description', 'input_schema'];
  const unknown = Object.keys(definition).filter((key) => !known.includes(key));
  return [
    ...unknown.map((key) => ({ path: `${path}.${key}`, message: 'is not a field of a custom tool' })),
    ...at(`${path}.type`, definition.type === 'custom' ? null : "must be 'custom'"),
    ...at(`${path}.name`, nameProblem(name)),
    ...at(`${path}.description`, descriptionProblem(description)),
    ...checkSchema(schema, `${path}.input_schema`),
  ];
}

function at(path: string, message: string | null): CustomToolError[] {
  return message === null ? [] : [{ path, message }];
}

function nameProblem(name: Json | undefined): string | null {
  if (typeof name !== 'string') return 'must be a string';
  if (!/^[A-Za-z0-9_-]{1,128}$/.test(name)) return 'must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -';
  if (name.startsWith('mcp__')) return "must not begin with 'mcp__', which is kept for tools of MCP servers";
  const isBuiltin = reservedNames.has(name) || builtinTools.some((tool) => tool.name === name);
  return isBuiltin ? `'${name}' is the name of a built-in tool` : null;
}

function descriptionProblem(description: Json | undefined): string | null {
  return typeof description === 'string' && description.trim() !== '' ? null : 'must be a non-empty string';
}

function checkSchema(schema: Json | undefined, path: string): CustomToolError[] {
  if (!isObject(schema)) return [{ path, message: 'must be a JSON Schema object' }];
  // Before anything recurses into it.
  if (isDeeperThan(schema, maxSchemaDepth))
    return [{ path, message: `must not be nested deeper than ${maxSchemaDepth}` }];
  if (Buffer.byteLength(canonicalJson(schema)) > maxSchemaBytes) {
    return [{ path, message: `must be at most ${maxSchemaBytes} bytes` }];
  }
  const errors = at(`${path}.type`, schema.type === 'object' ? null : "must be 'object'");
  for (const key of ['oneOf', 'anyOf', 'allOf']) {
    if (Object.hasOwn(schema, key))
      errors.push({ path: `${path}.${key}`, message: 'is not allowed at the top level' });
  }
  errors.push(...checkRequired(schema, path));
  visit(schema, path, errors);
  return errors;
}

function checkRequired(schema: JsonObject, path: string): CustomToolError[] {
  const { required } = schema;
  const isList = Array.isArray(required) && required.every((name) => typeof name === 'string');
  return at(`${path}.required`, required === undefined || isList ? null : 'must be a list of property names');
}

/** Keywords whose members are schemas by name, schemas in a list, or one schema; all else is data. */
const schemasByName = ['properties', 'patternProperties', '$defs', 'definitions', 'dependentSchemas'];
const schemaLists = ['oneOf', 'anyOf', 'allOf', 'prefixItems'];
const schemas = [
  'items',
  'additionalProperties',
  'not',
  'if',
  'then',
  'else',
  'contains',
  'propertyNames',
  'unevaluatedItems',
  'unevaluatedProperties',
  'additionalItems',
];

function visit(schema: Json | undefined, path: string, errors: CustomToolError[]): void {
  if (Array.isArray(schema)) {
    for (const [index, member] of schema.entries()) visit(member, `${path}[${index}]`, errors);
  }
  if (!isObject(schema)) return;
  for (const key of ['$ref', '$dynamicRef', '$recursiveRef']) {
    if (Object.hasOwn(schema, key))
      errors.push({ path: `${path}.${key}`, message: 'references are not allowed' });
  }
  const { properties } = schema;
  if (properties !== undefined && !isObject(properties)) {
    errors.push({ path: `${path}.properties`, message: 'must be an object' });
  }
  for (const name of isObject(properties) ? Object.keys(properties) : []) {
    if (/^[A-Za-z0-9_.-]{1,64}$/.test(name)) continue;
    const message = 'property names must be 1 to 64 characters of A-Z, a-z, 0-9, _, . and -';
    errors.push({ path: `${path}.properties[${JSON.stringify(name.slice(0, 80))}]`, message });
  }
  for (const key of schemasByName) {
    const members = schema[key];
    if (!isObject(members)) continue;
    for (const [name, member] of Object.entries(members)) visit(member, `${path}.${key}.${name}`, errors);
  }
  for (const key of [...schemaLists, ...schemas]) visit(schema[key], `${path}.${key}`, errors);
}

/** Without recursion, so that no depth can hurt. */
function isDeeperThan(json: Json, limit: number): boolean {
  let level: Json[] = [json];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    level = level.flatMap((value) =>
      value !== null && typeof value === 'object' ? Object.values(value) : [],
    );
  }
  return false;
}

function isObject(json: Json | undefined): json is JsonObject {
  return json !== null && typeof json === 'object' && !Array.isArray(json);
}
