/** The read tool: a text file, whole (up to 256 KiB) or a range of its lines. `pure`: it runs again after a takeover. */
import { z } from 'zod';
import { isRefusal } from '../sandbox/executor.ts';
import { failed, succeeded } from './outcome.ts';
import { pathInput, resolvePath } from './path.ts';
import { binaryKind, binaryMessage, readTextFile, unreadable } from './text-file.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

const maxShownBytes = 256 * 1024;
const stepBytes = 1024 * 1024;
/** A range may lie this deep in a file; beyond, bash has better means than we. */
const maxScannedBytes = 256 * 1024 * 1024;

const inputSchema = z.strictObject({
  file_path: pathInput('The file to read, absolute or relative to the working directory.'),
  view_range: z
    .array(z.int32())
    .length(2)
    .optional()
    .describe(
      '[first line, last line], counted from 1, both included. A last line of 0 or less means the last one.',
    ),
});

type ReadInput = z.infer<typeof inputSchema>;

async function run(input: ReadInput, context: ToolContext): Promise<ToolOutcome> {
  const path = resolvePath(context.cwd, input.file_path);
  const [first, last] = input.view_range ?? [];
  if (first !== undefined && last !== undefined)
    return readRange(context, path, input.file_path, first, last);
  const file = await readTextFile(context, path, input.file_path, maxShownBytes);
  if (file.ok)
    return succeeded(shown(file.text, file.isExact, '(the file is empty)'), { sizeBytes: file.sizeBytes });
  const hint =
    file.reason === 'too_large' ? ' Use view_range to read a part of it, for example [1, 500].' : '';
  return failed(file.message + hint);
}

function shown(text: string, isExact: boolean, ifEmpty: string): string {
  const note = isExact ? '' : '[Not valid UTF-8: bytes that cannot be decoded are shown as \ufffd.]\n';
  return note + (text || ifEmpty);
}

/** Reads on from the start in steps until the range is complete, and keeps only the range. */
async function readRange(
  context: ToolContext,
  path: string,
  shownPath: string,
  first: number,
  last: number,
): Promise<ToolOutcome> {
  if (last > 0 && first > last)
    return failed(`view_range: the first line (${first}) is after the last (${last}).`);
  const { session, fence, executor } = context;
  const range = new LineRange(Math.max(first, 1), last <= 0 ? Number.POSITIVE_INFINITY : last);
  for (let offset = 0; offset < maxScannedBytes; ) {
    const read = await executor.readFile({ session, fence, path, offset, maxBytes: stepBytes });
    if (isRefusal(read)) return failed((await unreadable(context, read, path, shownPath)).message);
    const binary = offset === 0 ? binaryKind(read.data) : null;
    if (binary !== null) return failed(binaryMessage(shownPath, binary, read.sizeBytes));
    range.push(read.data);
    offset += read.data.length;
    if (range.keptBytes > maxShownBytes) {
      return failed(
        `Lines ${first} to ${last} of ${shownPath} hold more than ${maxShownBytes} bytes. Use a smaller range.`,
      );
    }
    if (range.isComplete || read.data.length === 0 || offset >= read.sizeBytes)
      return ofRange(range, shownPath);
  }
  return failed(`${shownPath} is too large to count lines in. Use bash (sed, tail) to read from it.`);
}

function ofRange(range: LineRange, shownPath: string): ToolOutcome {
  const bytes = range.bytes();
  if (range.lines < range.first) {
    return failed(
      `${shownPath} has ${range.lines} ${range.lines === 1 ? 'line' : 'lines'}; line ${range.first} is past its end.`,
    );
  }
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  return succeeded(text || '(empty)', {
    firstLine: range.first,
    lastLine: Math.min(range.last, range.lines),
  });
}

/** Takes a file's bytes in pieces and keeps those of the lines from `first` to `last`. */
class LineRange {
  readonly first: number;
  readonly last: number;
  readonly #kept: Uint8Array[] = [];
  keptBytes = 0;
  /** Lines that began so far; a line break at the very end begins none. */
  lines = 0;
  #atLineStart = true;

  constructor(first: number, last: number) {
    this.first = first;
    this.last = last;
  }

  get isComplete(): boolean {
    return this.lines >= this.last && this.#atLineStart;
  }

  push(data: Uint8Array): void {
    for (let start = 0; start < data.length && !this.isComplete; ) {
      if (this.#atLineStart) this.lines++;
      const lineBreak = data.indexOf(0x0a, start);
      const end = lineBreak < 0 ? data.length : lineBreak + 1;
      if (this.lines >= this.first) this.#keep(data.subarray(start, end));
      this.#atLineStart = lineBreak >= 0;
      start = end;
    }
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#kept);
  }

  #keep(bytes: Uint8Array): void {
    this.#kept.push(bytes);
    this.keptBytes += bytes.length;
  }
}

export const read: Tool<ReadInput> = {
  name: 'read',
  description: [
    'Read a UTF-8 text file. Without view_range the whole file, if it is at most 256 KiB.',
    'The text is returned as it is, without line numbers.',
  ].join(' '),
  input: inputSchema,
  effect: 'pure',
  run,
};
