/**
 * The built-in toolset: which tools there are, how a model sees them, and the door that their input passes.
 *
 * Promises kept here
 * - L7: `toolSchemas` gives the same bytes for the same names in any process; a session pins them at its creation.
 * - Nothing reaches a tool that its schema does not know: unknown fields are refused, not dropped.
 */
import { z } from 'zod';
import type { Json, JsonObject } from '../protocol/json.ts';
import type { ToolSchema } from '../session/model-request.ts';
import { applyPatch } from './apply-patch.ts';
import { bash } from './bash.ts';
import { edit } from './edit.ts';
import { glob } from './glob.ts';
import { grep } from './grep.ts';
import { read } from './read.ts';
import type { Tool } from './tool.ts';
import { write } from './write.ts';

/** In the order in which a model sees them. */
export const builtinTools: readonly Tool[] = [bash, read, write, edit, applyPatch, glob, grep];

export function findTool(name: string): Tool | undefined {
  return builtinTools.find((tool) => tool.name === name);
}

/** Of the enabled tools, in the toolset's own order. Names that are no built-in tool are passed over. */
export function toolSchemas(enabledNames: Iterable<string>): ToolSchema[] {
  const enabled = new Set(enabledNames);
  return builtinTools.filter((tool) => enabled.has(tool.name)).map(toolSchema);
}

function toolSchema(tool: Tool): ToolSchema {
  const { $schema: _, ...inputSchema } = z.toJSONSchema(tool.input, { io: 'input' }) as JsonObject;
  return { name: tool.name, description: tool.description, inputSchema };
}

export type ParsedInput<Input> = { ok: true; input: Input } | { ok: false; message: string };

/** `json` is what the model sent, or null where that was no JSON object. The message is for the model. */
export function parseInput<Input>(tool: Tool<Input>, json: Json): ParsedInput<Input> {
  if (json === null || typeof json !== 'object' || Array.isArray(json)) {
    return { ok: false, message: `${tool.name}: the arguments must be one JSON object.` };
  }
  const parsed = tool.input.safeParse(withoutAbsent(tool.input, json));
  if (parsed.success) return { ok: true, input: parsed.data };
  const problems = parsed.error.issues.map(describeIssue);
  return { ok: false, message: `${tool.name}: invalid arguments.\n${problems.join('\n')}` };
}

/** Some models send null for an optional argument that they leave out. */
function withoutAbsent(schema: z.ZodType, json: JsonObject): JsonObject {
  if (!(schema instanceof z.ZodObject)) return json;
  const isOptional = (key: string): boolean => {
    const member: unknown = Object.hasOwn(schema.shape, key) ? schema.shape[key] : undefined;
    return member instanceof z.ZodOptional;
  };
  return Object.fromEntries(
    Object.entries(json).filter(([key, value]) => value !== null || !isOptional(key)),
  );
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const path = issue.path
    .map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`))
    .join('');
  const where = path.replace(/^\./, '');
  if (issue.code === 'unrecognized_keys') {
    return `- unknown ${issue.keys.length === 1 ? 'argument' : 'arguments'}: ${issue.keys.join(', ')}`;
  }
  return `- ${where === '' ? '(arguments)' : where}: ${issue.message}`;
}
