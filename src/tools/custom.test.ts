import { expect, it } from 'vitest';
import type { Json } from '../protocol/json.ts';
import { checkCustomTools, customToolSchema } from './custom.ts';

const good = {
  type: 'custom',
  name: 'get_weather',
  description: 'The weather of a place.',
  input_schema: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] },
};

function problems(change: { [key: string]: Json }): string[] {
  const checked = checkCustomTools([{ ...good, ...change }], 'tools');
  return checked.ok ? [] : checked.errors.map((error) => `${error.path}: ${error.message}`);
}

it('a good definition passes and becomes what a model sees', () => {
  const checked = checkCustomTools([good], 'tools');
  expect(checked.ok && checked.tools.map(customToolSchema)).toEqual([
    { name: 'get_weather', description: 'The weather of a place.', inputSchema: good.input_schema },
  ]);
});

it.each([
  [
    'a name with a space',
    { name: 'a b' },
    'tools[0].name: must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -',
  ],
  [
    'a name of 129 characters',
    { name: 'a'.repeat(129) },
    'tools[0].name: must be 1 to 128 characters of A-Z, a-z, 0-9, _ and -',
  ],
  ['the name of a built-in tool', { name: 'bash' }, "tools[0].name: 'bash' is the name of a built-in tool"],
  [
    'the name of a web tool',
    { name: 'web_fetch' },
    "tools[0].name: 'web_fetch' is the name of a built-in tool",
  ],
  [
    'a name like that of an MCP tool',
    { name: 'mcp__a' },
    "tools[0].name: must not begin with 'mcp__', which is kept for tools of MCP servers",
  ],
  ['no name', { name: null }, 'tools[0].name: must be a string'],
  ['an empty description', { description: ' ' }, 'tools[0].description: must be a non-empty string'],
  ['another type', { type: 'function' }, "tools[0].type: must be 'custom'"],
  ['an unknown field', { strict: true }, 'tools[0].strict: is not a field of a custom tool'],
  ['no schema', { input_schema: null }, 'tools[0].input_schema: must be a JSON Schema object'],
  [
    'a schema of a string',
    { input_schema: { type: 'string' } },
    "tools[0].input_schema.type: must be 'object'",
  ],
  [
    'a choice at the top',
    { input_schema: { type: 'object', anyOf: [] } },
    'tools[0].input_schema.anyOf: is not allowed at the top level',
  ],
  [
    'a reference far down',
    { input_schema: { type: 'object', properties: { a: { items: { anyOf: [{ $ref: '#/x' }] } } } } },
    'tools[0].input_schema.properties.a.items.anyOf[0].$ref: references are not allowed',
  ],
  [
    'a property name with a space',
    { input_schema: { type: 'object', properties: { 'a b': {} } } },
    'tools[0].input_schema.properties["a b"]: property names must be 1 to 64 characters of A-Z, a-z, 0-9, _, . and -',
  ],
  [
    'a bad property name inside a property',
    { input_schema: { type: 'object', properties: { a: { type: 'object', properties: { '': {} } } } } },
    'tools[0].input_schema.properties.a.properties[""]: property names must be 1 to 64 characters of A-Z, a-z, 0-9, _, . and -',
  ],
  [
    'a required that is no list',
    { input_schema: { type: 'object', required: 'a' } },
    'tools[0].input_schema.required: must be a list of property names',
  ],
  [
    'a schema of 70 KB',
    { input_schema: { type: 'object', title: 'x'.repeat(70_000) } },
    'tools[0].input_schema: must be at most 65536 bytes',
  ],
])('%s is refused with its path', (_, change: { [key: string]: Json }, expected) => {
  expect(problems(change)).toEqual([expected]);
});

it('words that only look like references are data', () => {
  const input_schema = {
    type: 'object',
    properties: { a: { enum: [{ $ref: 'x' }], default: { $ref: 'x' } } },
  };
  expect(problems({ input_schema })).toEqual([]);
});

it('a schema nested a hundred thousand times is refused without harm', () => {
  let schema: Json = {};
  for (let depth = 0; depth < 100_000; depth++) schema = { not: schema };
  expect(problems({ input_schema: { type: 'object', properties: { a: schema } } })).toEqual([
    'tools[0].input_schema: must not be nested deeper than 32',
  ]);
});

it('every problem of every tool is found at once, and equal names as well', () => {
  const checked = checkCustomTools([good, 5, { ...good, description: '', name: 'get_weather' }], 'tools');
  expect(checked.ok ? [] : checked.errors.map((error) => error.path)).toEqual([
    'tools[1]',
    'tools[2].description',
    'tools[2].name',
  ]);
});
