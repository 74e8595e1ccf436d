/**
 * Output too long for a model: it gets head and tail, and the whole goes to a file in the sandbox, from where the model
 * can read any part. The file is in the agent's home, which survives a restart of the sandbox (/tmp does not).
 */
import { isRefusal, sandboxPaths } from '../sandbox/executor.ts';
import { refusalText } from './outcome.ts';
import { headAndTail, modelTextChars } from './terminal-text.ts';
import type { ToolContext } from './tool.ts';

/** Below the agent's home. */
export function callLogName(callId: string): string {
  return `.scriptorium/calls/${callId.replaceAll(/[^A-Za-z0-9_.-]/g, '_')}.log`;
}

/**
 * `text` as it is where it fits, else its head, a marker and its tail, after `whole` was saved in the sandbox.
 * The saving has a call id derived from the call's own, so that doing it again after a takeover changes nothing (L6).
 */
export async function fitForModel(
  context: ToolContext,
  text: string,
  whole: Uint8Array,
  maxChars: number = modelTextChars,
): Promise<{ text: string; logPath: string | null }> {
  const cut = headAndTail(text, maxChars);
  if (!cut) return { text, logPath: null };
  const { session, fence, callId, executor } = context;
  const path = `${sandboxPaths.home}/${callLogName(callId)}`;
  const edits = [{ path, content: whole, mode: 0o600 }];
  const saved = await executor.applyEdits({ session, fence, callId: `${callId}.log`, edits });
  const where = isRefusal(saved)
    ? `the whole output could not be saved: ${refusalText(saved, path)}`
    : `the whole output (${whole.length} bytes) is in ${path}`;
  const marker = `[... ${cut.missingBytes} bytes are missing here; ${where} ...]`;
  const head = cut.head.endsWith('\n') ? cut.head : `${cut.head}\n`;
  return { text: `${head}${marker}\n${cut.tail}`, logPath: isRefusal(saved) ? null : path };
}
