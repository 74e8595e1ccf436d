import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { builtinTools, findTool, parseInput, toolSchemas } from './toolset.ts';

const names = ['bash', 'read', 'write', 'edit', 'apply_patch', 'glob', 'grep'];

it('has the tools of the protocol and apply_patch', () => {
  expect(builtinTools.map((tool) => [tool.name, tool.effect])).toEqual([
    ['bash', 'unsafe'],
    ['read', 'pure'],
    ['write', 'keyed'],
    ['edit', 'keyed'],
    ['apply_patch', 'keyed'],
    ['glob', 'pure'],
    ['grep', 'pure'],
  ]);
  expect(findTool('nothing')).toBeUndefined();
  expect(findTool('toString')).toBeUndefined();
});

// A session pins these bytes (L7). A change is allowed, since running sessions keep what they pinned, but never by accident.
it('its schemas are these bytes', () => {
  const schemas = toolSchemas(names);
  expect(schemas.map((schema) => [schema.name, JSON.stringify(schema.inputSchema)])).toMatchInlineSnapshot(`
    [
      [
        "bash",
        "{"type":"object","properties":{"command":{"description":"The command to run. Several lines are fine.","type":"string"},"restart":{"description":"Go back to the initial working directory (before running a command).","type":"boolean"},"timeout_ms":{"description":"Kill the command and everything it started after this many milliseconds. Default 120000.","type":"integer","minimum":1,"maximum":1800000},"run_in_background":{"description":"Start the command and return at once with its pid and the file that gets its output.","type":"boolean"}},"additionalProperties":false}",
      ],
      [
        "read",
        "{"type":"object","properties":{"file_path":{"type":"string","minLength":1,"description":"The file to read, absolute or relative to the working directory."},"view_range":{"description":"[first line, last line], counted from 1, both included. A last line of 0 or less means the last one.","minItems":2,"maxItems":2,"type":"array","items":{"type":"integer","minimum":-2147483648,"maximum":2147483647}}},"required":["file_path"],"additionalProperties":false}",
      ],
      [
        "write",
        "{"type":"object","properties":{"file_path":{"type":"string","minLength":1,"description":"The file to write, absolute or relative to the working directory."},"content":{"type":"string","description":"The whole new content of the file."}},"required":["file_path","content"],"additionalProperties":false}",
      ],
      [
        "edit",
        "{"type":"object","properties":{"file_path":{"type":"string","minLength":1,"description":"The file to change, absolute or relative to the working directory."},"old_string":{"type":"string","minLength":1,"description":"The text to replace, exactly as it is in the file, with its white space."},"new_string":{"type":"string","description":"The text to put in its place."},"replace_all":{"description":"Replace every occurrence; without it there must be exactly one.","type":"boolean"}},"required":["file_path","old_string","new_string"],"additionalProperties":false}",
      ],
      [
        "apply_patch",
        "{"type":"object","properties":{"input":{"type":"string","minLength":1,"description":"The whole patch, from \\"*** Begin Patch\\" to \\"*** End Patch\\"."}},"required":["input"],"additionalProperties":false}",
      ],
      [
        "glob",
        "{"type":"object","properties":{"pattern":{"type":"string","minLength":1,"maxLength":500,"description":"A relative pattern with *, ?, [...], {a,b} and ** for directories, for example \\"src/**/*.{ts,tsx}\\"."},"path":{"type":"string","minLength":1,"description":"The directory to search; without it the working directory."}},"required":["pattern"],"additionalProperties":false}",
      ],
      [
        "grep",
        "{"type":"object","properties":{"pattern":{"type":"string","minLength":1,"maxLength":10000,"description":"A regular expression (ripgrep syntax where ripgrep is installed, else POSIX extended), matched per line."},"path":{"type":"string","minLength":1,"description":"The file or directory to search; without it the working directory."}},"required":["pattern"],"additionalProperties":false}",
      ],
    ]
  `);
  const described = schemas.map((schema) => schema.description).join('\n');
  expect(createHash('sha256').update(described).digest('hex')).toMatchInlineSnapshot(
    `"e69cc32b68560f5bf8af08f7b22222d487e7cc978ca0cdf873e6e27bca51502a"`,
  );
});

it('the schemas are the same bytes every time, in whatever order the tools are named', () => {
  expect(JSON.stringify(toolSchemas([...names].reverse()))).toBe(JSON.stringify(toolSchemas(names)));
  expect(toolSchemas(['grep', 'web_search', 'read']).map((schema) => schema.name)).toEqual(['read', 'grep']);
});

it.each([
  [
    'read',
    { file_path: 'a', view_range: [1] },
    '- view_range: Too small: expected array to have exactly 2 items',
  ],
  [
    'read',
    { file_path: 'a', view_range: [1, 2.5] },
    '- view_range[1]: Invalid input: expected int, received number',
  ],
  ['read', { file_path: 7 }, '- file_path: Invalid input: expected string, received number'],
  ['read', {}, '- file_path: Invalid input: expected string, received undefined'],
  ['read', { file_path: 'a\0b' }, '- file_path: must not contain a NUL character'],
  ['read', { file_path: 'a', path: 'b' }, '- unknown argument: path'],
  ['bash', {}, '- command: must be a non-empty string, unless restart is true'],
  ['bash', { command: 'x', timeout_ms: 1_800_001 }, '- timeout_ms: Too big: expected number to be <=1800000'],
  [
    'bash',
    { command: 'x'.repeat(120_001) },
    '- command: must be at most 120000 bytes; put long input into a file with the write tool',
  ],
])('%s refuses %j and says where it is wrong', (name, json, expected) => {
  const tool = findTool(name);
  expect(tool && parseInput(tool, json)).toEqual({
    ok: false,
    message: `${name}: invalid arguments.\n${expected}`,
  });
});

it.each([null, [], 'text', 5])('refuses arguments that are no object: %j', (json) => {
  const tool = findTool('read');
  expect(tool && parseInput(tool, json)).toEqual({
    ok: false,
    message: 'read: the arguments must be one JSON object.',
  });
});

it('takes null for an optional argument as absent, and for a required one as wrong', () => {
  const tool = findTool('read');
  expect(tool && parseInput(tool, { file_path: 'a', view_range: null })).toEqual({
    ok: true,
    input: { file_path: 'a' },
  });
  expect(tool && parseInput(tool, { file_path: null })).toMatchObject({ ok: false });
});
