/** How tools say what happened: endings are values, and a refusal of the sandbox is one of them. */
import type { JsonObject } from '../protocol/json.ts';
import type { Refusal } from '../sandbox/executor.ts';
import type { ToolOutcome } from './tool.ts';

export function succeeded(text: string, details?: JsonObject): ToolOutcome {
  return outcome(text, false, details);
}

export function failed(text: string, details?: JsonObject): ToolOutcome {
  return outcome(text, true, details);
}

/** Nobody can know whether the effect happened (L6): never said to have failed, never to have worked. */
export function inDoubt(text: string, details?: JsonObject): ToolOutcome {
  return { ...outcome(text, true, details), inDoubt: true };
}

export const interruptedText = 'Tool execution was interrupted before completion.';

/** `path` is what the model named, for its own eyes; the refusal's message may speak of anything. */
export function refused(refusal: Refusal, path?: string): ToolOutcome {
  return failed(refusalText(refusal, path), { refused: refusal.refused });
}

export function refusalText(refusal: Refusal, path?: string): string {
  const subject = path ?? 'The path';
  switch (refusal.refused) {
    case 'not_found':
      return `${subject} does not exist.`;
    case 'not_a_file':
      return `${subject} is not a regular file.`;
    case 'not_a_directory':
      return `${subject} is not a directory.`;
    case 'permission_denied':
      return `Permission denied: ${subject}.`;
    case 'changed':
      return `${subject} was changed by something else in the meantime. Read it again, then repeat the change.`;
    case 'too_large':
      return `${subject} is too large: ${refusal.message}`;
    default:
      return `The sandbox refused (${refusal.refused}): ${refusal.message}`;
  }
}

function outcome(text: string, isError: boolean, details?: JsonObject): ToolOutcome {
  return { content: [{ type: 'text', text }], isError, ...(details && { details }) };
}
