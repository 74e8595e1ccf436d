/** Reads a valid request the way a script wants to see it. Pure. */
import type { Json, JsonObject, ToolOutput, Turn } from './script.ts';

type Facts = Pick<Turn, 'attempt' | 'requestsBefore' | 'headers' | 'args'>;

export function readTurn(body: JsonObject, facts: Facts): Turn {
  const input = typeof body.input === 'string' ? [userMessage(body.input)] : objects(body.input);
  const lastUserAt = input.findLastIndex((item) => item.role === 'user');
  const calls = new Map(
    input.filter((item) => item.type === 'function_call').map((item) => [String(item.call_id), item]),
  );
  const allToolOutputs = outputsOf(input, calls);
  const toolOutputs = outputsOf(input.slice(lastUserAt + 1), calls);
  return {
    ...facts,
    input,
    instructions: typeof body.instructions === 'string' ? body.instructions : '',
    model: String(body.model),
    tools: objects(body.tools).map((tool) => String(tool.name)),
    userText: lastUserAt < 0 ? '' : textOf(input[lastUserAt]?.content),
    toolOutputs,
    allToolOutputs,
    lastToolOutput: toolOutputs.at(-1) ?? null,
    step: responsesIn(input.slice(lastUserAt + 1)),
  };
}

/** A response is a run of items of the model; results or messages stand between two. */
function responsesIn(items: readonly JsonObject[]): number {
  const isModel = items.map((item) => item.type !== 'function_call_output' && item.role !== 'user');
  return isModel.filter((is, at) => is && isModel[at - 1] !== true).length;
}

function outputsOf(items: readonly JsonObject[], calls: ReadonlyMap<string, JsonObject>): ToolOutput[] {
  return items
    .filter((item) => item.type === 'function_call_output')
    .map((item) => {
      const callId = String(item.call_id);
      const call = calls.get(callId);
      const input = readArguments(call?.arguments);
      return { callId, toolName: String(call?.name ?? ''), input, text: textOf(item.output) };
    });
}

function readArguments(text: Json | undefined): JsonObject | null {
  if (typeof text !== 'string') return null;
  try {
    return objects([JSON.parse(text) as Json])[0] ?? null;
  } catch {
    return null;
  }
}

function textOf(content: Json | undefined): string {
  if (typeof content === 'string') return content;
  return objects(content)
    .map((part) => (typeof part.text === 'string' ? part.text : `[${String(part.type)}]`))
    .join('\n');
}

function userMessage(text: string): JsonObject {
  return { type: 'message', role: 'user', content: [{ type: 'input_text', text }] };
}

function objects(value: Json | undefined): JsonObject[] {
  if (!Array.isArray(value)) return [];
  return value.filter(
    (item): item is JsonObject => item !== null && typeof item === 'object' && !Array.isArray(item),
  );
}
