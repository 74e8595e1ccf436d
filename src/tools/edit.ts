/**
 * The edit tool: one exact text becomes another. `keyed` by the call id (L6), and a compare-and-swap: the change is
 * made only to the very content that was searched, so that nobody's change in between is lost.
 */
import { z } from 'zod';
import type { CallStatus, EditsDone } from '../sandbox/executor.ts';
import type { PlannedEdits } from './edits-call.ts';
import { applyPlanned, recoverEdits } from './edits-call.ts';
import { failed, interruptedText, succeeded } from './outcome.ts';
import { pathInput, resolvePath } from './path.ts';
import { readTextFile } from './text-file.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

/** The whole file travels and is held in memory. */
const maxFileBytes = 8 * 1024 * 1024;
const maxNamedLines = 20;

const inputSchema = z.strictObject({
  file_path: pathInput('The file to change, absolute or relative to the working directory.'),
  old_string: z
    .string()
    .min(1)
    .describe('The text to replace, exactly as it is in the file, with its white space.'),
  new_string: z.string().describe('The text to put in its place.'),
  replace_all: z
    .boolean()
    .optional()
    .describe('Replace every occurrence; without it there must be exactly one.'),
});

type EditInput = z.infer<typeof inputSchema>;

async function plan(input: EditInput, context: ToolContext): Promise<PlannedEdits> {
  const no = (text: string): PlannedEdits => ({ ok: false, outcome: failed(text) });
  if (input.old_string === input.new_string)
    return no('old_string and new_string are equal; nothing would change.');
  const path = resolvePath(context.cwd, input.file_path);
  const file = await readTextFile(context, path, input.file_path, maxFileBytes);
  if (!file.ok) return no(file.message);
  if (!file.isExact)
    return no(`${input.file_path} is not valid UTF-8 and was left alone. Use bash to change it.`);
  const replaced = replaceText(file.text, input);
  if (!replaced.ok) return no(replaced.message);
  const edit = { path, content: Buffer.from(replaced.text), expectSha256: file.sha256 };
  return { ok: true, edits: [edit], describe: (done) => describe(input, done, replaced.lines) };
}

export type Replaced = { ok: true; text: string; lines: number[] } | { ok: false; message: string };

/** Pure: the new text and the lines at which something was replaced. */
export function replaceText(text: string, input: EditInput): Replaced {
  const { file_path, replace_all } = input;
  const wanted = inLineEndsOf(text, input);
  const parts = text.split(wanted.from);
  const lines = linesOf(parts, wanted.from);
  if (lines.length === 0) return { ok: false, message: notFound(text, input) };
  if (lines.length > 1 && !replace_all) {
    const message = [
      `old_string is ${lines.length} times in ${file_path}, at ${namedLines(lines)}.`,
      'Add lines around it until it is unique, or set replace_all.',
    ].join(' ');
    return { ok: false, message };
  }
  return { ok: true, text: parts.join(wanted.to), lines };
}

/** A model writes line feeds; in a file with DOS line ends they mean those. */
function inLineEndsOf(text: string, input: EditInput): { from: string; to: string } {
  const { old_string: from, new_string: to } = input;
  const isDos = text.includes('\r\n') && !text.includes(from) && !from.includes('\r') && from.includes('\n');
  const convert = (part: string): string => part.replaceAll(/\r?\n/g, '\r\n');
  return isDos ? { from: convert(from), to: convert(to) } : { from, to };
}

function linesOf(parts: string[], separator: string): number[] {
  const separatorBreaks = countBreaks(separator);
  const lines: number[] = [];
  let line = 1;
  for (const part of parts.slice(0, -1)) {
    line += countBreaks(part);
    lines.push(line);
    line += separatorBreaks;
  }
  return lines;
}

function countBreaks(text: string): number {
  return text.split('\n').length - 1;
}

function namedLines(lines: number[]): string {
  const named = lines.slice(0, maxNamedLines).join(', ');
  const more = lines.length - maxNamedLines;
  return `${lines.length === 1 ? 'line' : 'lines'} ${named}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Helps with the usual cause: the same words with other white space. */
function notFound(text: string, input: EditInput): string {
  const missing = `old_string is not in ${input.file_path}.`;
  const firstLine = input.old_string.split('\n').find((line) => line.trim() !== '');
  const words = firstLine?.trim();
  if (!words) return missing;
  const similar = text.split('\n').flatMap((line, index) => (line.trim() === words ? [index + 1] : []));
  if (similar.length === 0) return `${missing} Read the file again; it may have changed.`;
  return `${missing} Its first line is at ${namedLines(similar)}, but white space or the lines after it differ.`;
}

function describe(input: EditInput, done: EditsDone, lines: number[] | null): ToolOutcome {
  const files = done.files.map((file) => file.path);
  if (lines === null) return succeeded(`Edited ${input.file_path}.`, { files });
  const count = lines.length === 1 ? '1 replacement' : `${lines.length} replacements`;
  return succeeded(`Edited ${input.file_path}: ${count} at ${namedLines(lines)}.`, { files });
}

async function run(input: EditInput, context: ToolContext): Promise<ToolOutcome> {
  if (context.signal.aborted) return failed(interruptedText);
  return applyPlanned(context, await plan(input, context));
}

async function recover(input: EditInput, context: ToolContext, status: CallStatus): Promise<ToolOutcome> {
  return recoverEdits(
    context,
    status,
    (done) => describe(input, done, null),
    () => plan(input, context),
  );
}

export const edit: Tool<EditInput> = {
  name: 'edit',
  description: [
    'Replace old_string by new_string in a text file. old_string must match exactly and be there exactly once,',
    'unless replace_all is set. The file is left alone if it was changed by something else meanwhile.',
  ].join(' '),
  input: inputSchema,
  effect: 'keyed',
  run,
  recover,
};
