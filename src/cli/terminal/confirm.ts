/** Asks the person at the keyboard whether a tool call may run, showing all of what would run. */
import { createInterface } from 'node:readline/promises';
import type { JsonObject } from '../../protocol/json.ts';
import { summaryOf } from './narrate.ts';
import type { Terminal } from './terminal.ts';
import { safeText } from './text.ts';

export type Answer = { result: 'allow' } | { result: 'deny'; deny_message?: string };

/** null: nobody answered (end of input, or the caller left). */
export async function askForConfirmation(
  name: string,
  input: JsonObject,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<Answer | null> {
  terminal.status('');
  terminal.err('');
  terminal.err(terminal.paint('yellow', `The agent asks to run ${safeText(name)}:`));
  for (const line of shownInput(name, input).split('\n')) terminal.err(`    ${line}`);
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  // Readline takes Ctrl-C for itself; here it means what it means everywhere.
  reader.on('SIGINT', () => process.emit('SIGINT'));
  const ended = new AbortController();
  reader.once('close', () => ended.abort());
  try {
    for (;;) {
      const question = 'Allow it? [y]es, [n]o, or say no and why: ';
      const typed = (
        await reader.question(question, { signal: AbortSignal.any([signal, ended.signal]) })
      ).trim();
      if (/^y(es)?$/i.test(typed)) return { result: 'allow' };
      if (/^no?$/i.test(typed)) return { result: 'deny' };
      if (typed !== '') return { result: 'deny', deny_message: typed.replace(/^no?[,:]?\s+/i, '') };
    }
  } catch (error) {
    if ((error as Error).name === 'AbortError') return null;
    throw error;
  } finally {
    reader.close();
  }
}

/** Never cut: what is allowed is all of it (G2). */
export function shownInput(name: string, input: JsonObject): string {
  if (name === 'bash' && typeof input.command === 'string') return safeText(input.command);
  const summary = summaryOf(name, input);
  return safeText(`${summary}\n${JSON.stringify(input, null, 2)}`);
}
