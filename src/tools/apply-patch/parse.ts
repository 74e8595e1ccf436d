/**
 * The patch envelope that Codex-like models write, as data. Pure. Lenient where models are known to slip: white space
 * around markers, a here-document around the whole, a first hunk without `@@`, DOS line ends.
 *
 *     *** Begin Patch
 *     *** Add File: path         then lines, each with a leading `+`
 *     *** Delete File: path
 *     *** Update File: path      then perhaps `*** Move to: path`, then hunks
 *     @@ a line above the hunk   narrows down where it is; several narrow down further; bare `@@` just begins a hunk
 *      context, `-` removed, `+` added; `*** End of File` says that the hunk reaches the end
 *     *** End Patch
 */
export type HunkLine = { sign: ' ' | '+' | '-'; text: string };

export type Hunk = {
  /** Lines that come before the hunk, outermost first (class, method, …). */
  anchors: string[];
  lines: HunkLine[];
  isAtEnd: boolean;
  /** Where the hunk begins in the patch, counted from 1, for messages. */
  patchLine: number;
};

export type FileChange =
  | { type: 'add'; path: string; lines: string[] }
  | { type: 'delete'; path: string }
  | { type: 'update'; path: string; moveTo: string | null; hunks: Hunk[] };

export type ParsedPatch = { ok: true; changes: FileChange[] } | { ok: false; message: string };

const beginMarker = '*** Begin Patch';
const endMarker = '*** End Patch';
const endOfFileMarker = '*** End of File';

/** Carries a sentence for the model out of nested parsing; never leaves this file. */
class PatchError extends Error {}

export function parsePatch(patch: string): ParsedPatch {
  try {
    return { ok: true, changes: new Parser(envelope(patch)).changes() };
  } catch (error) {
    if (error instanceof PatchError) return { ok: false, message: error.message };
    throw error;
  }
}

type Lines = {
  lines: string[] /** Number of the first of them in what the model wrote. */;
  firstLine: number;
};

function envelope(patch: string): Lines {
  const written = patch.split('\n').map((line) => line.replace(/\r$/, ''));
  let first = written.findIndex((line) => line.trim() !== '');
  let last = written.findLastIndex((line) => line.trim() !== '');
  if (first < 0) throw new PatchError('The patch is empty.');
  const delimiter = /^(?:apply_patch\s+)?<<-?\s*(['"]?)(\w+)\1$/.exec(written[first]?.trim() ?? '')?.[2];
  if (delimiter !== undefined && written[last]?.trim() === delimiter) {
    first++;
    last--;
  }
  if (written[first]?.trim() !== beginMarker) {
    throw new PatchError(`The first line of the patch must be '${beginMarker}'.`);
  }
  if (last <= first || written[last]?.trim() !== endMarker) {
    throw new PatchError(`The last line of the patch must be '${endMarker}'.`);
  }
  return { lines: written.slice(first + 1, last), firstLine: first + 2 };
}

class Parser {
  readonly #lines: string[];
  readonly #firstLine: number;
  #index = 0;

  constructor({ lines, firstLine }: Lines) {
    this.#lines = lines;
    this.#firstLine = firstLine;
  }

  changes(): FileChange[] {
    const changes: FileChange[] = [];
    while (this.#index < this.#lines.length) {
      if (this.#peek().trim() === '') this.#index++;
      else changes.push(this.#change());
    }
    if (changes.length === 0) throw new PatchError('The patch changes no file.');
    return changes;
  }

  #change(): FileChange {
    const header = this.#peek().trim();
    const [, verb, path] = /^\*\*\* (Add|Delete|Update) File:\s*(.*)$/.exec(header) ?? [];
    if (verb === undefined) {
      const headers = "'*** Add File: {path}', '*** Delete File: {path}' or '*** Update File: {path}'";
      throw this.#error(`'${clip(header)}' does not begin a change of a file; that takes ${headers}.`);
    }
    if (!path) throw this.#error(`'${header}' names no file.`);
    this.#index++;
    if (verb === 'Add') return { type: 'add', path, lines: this.#addedLines() };
    if (verb === 'Delete') return { type: 'delete', path };
    return this.#update(path);
  }

  #addedLines(): string[] {
    const lines: string[] = [];
    while (this.#peek().startsWith('+')) lines.push(this.#next().slice(1));
    if (this.#isInside() && this.#peek().trim() !== '' && !this.#peek().trim().startsWith('*** ')) {
      throw this.#error(`'${clip(this.#peek())}': every line of an added file begins with '+'.`);
    }
    return lines;
  }

  #update(path: string): FileChange {
    const headerLine = this.#line() - 1;
    const moveTo = /^\*\*\* Move to:\s*(.+)$/.exec(this.#peek().trim())?.[1] ?? null;
    if (moveTo !== null) this.#index++;
    const hunks: Hunk[] = [];
    while (this.#isInside() && !isFileHeader(this.#peek())) {
      if (this.#peek().trim() === '' && this.#isBlankUntilHeader()) this.#index++;
      else hunks.push(this.#hunk(hunks.length === 0));
    }
    if (hunks.length === 0 && moveTo === null) {
      throw new PatchError(`Line ${headerLine}: the update of ${path} has no hunks.`);
    }
    return { type: 'update', path, moveTo, hunks };
  }

  #hunk(isFirst: boolean): Hunk {
    const hunk: Hunk = { anchors: [], lines: [], isAtEnd: false, patchLine: this.#line() };
    const startIndex = this.#index;
    for (let anchor = anchorOf(this.#peek()); anchor !== null; anchor = anchorOf(this.#peek())) {
      if (anchor !== '') hunk.anchors.push(anchor);
      this.#index++;
    }
    if (this.#index === startIndex && !isFirst) {
      throw this.#error(`'${clip(this.#peek())}' is no part of a hunk; a hunk begins with '@@'.`);
    }
    while (this.#isInside() && this.#hunkLine(hunk)) this.#index++;
    if (this.#isInside() && this.#peek().trimEnd() === endOfFileMarker) {
      hunk.isAtEnd = true;
      this.#index++;
    }
    if (hunk.lines.length === 0) {
      throw this.#error(
        "The hunk has no lines. Each begins with ' ' (context), '+' (added) or '-' (removed).",
      );
    }
    return hunk;
  }

  /** False at a line that is not the hunk's. */
  #hunkLine(hunk: Hunk): boolean {
    const line = this.#peek();
    if (isFileHeader(line) || line.trimEnd() === endOfFileMarker || anchorOf(line) !== null) return false;
    // An empty line is an empty context line whose space was trimmed, except before the next header.
    if (line === '' && this.#isBlankUntilHeader()) return false;
    const sign = line === '' ? ' ' : line.charAt(0);
    if (sign !== ' ' && sign !== '+' && sign !== '-') {
      throw this.#error(`'${clip(line)}' must begin with ' ' (context), '+' (added) or '-' (removed).`);
    }
    hunk.lines.push({ sign, text: line.slice(1) });
    return true;
  }

  #isBlankUntilHeader(): boolean {
    for (let index = this.#index; index < this.#lines.length; index++) {
      const line = this.#lines[index] ?? '';
      if (line.trim() !== '') return isFileHeader(line) || anchorOf(line) !== null;
    }
    return true;
  }

  #isInside(): boolean {
    return this.#index < this.#lines.length;
  }

  #peek(): string {
    return this.#lines[this.#index] ?? '';
  }

  #next(): string {
    return this.#lines[this.#index++] ?? '';
  }

  #line(): number {
    return this.#firstLine + this.#index;
  }

  #error(message: string): PatchError {
    return new PatchError(`Line ${this.#line()}: ${message}`);
  }
}

function isFileHeader(line: string): boolean {
  return /^\*\*\* (?:Add|Delete|Update) File:/.test(line);
}

/** Null where the line begins no hunk; empty for a bare `@@`. */
function anchorOf(line: string): string | null {
  if (line.trimEnd() === '@@') return '';
  // The line numbers of a unified diff say nothing that we would trust.
  if (/^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@/.test(line)) return '';
  return line.startsWith('@@ ') ? line.slice(3) : null;
}

function clip(line: string): string {
  return line.length > 120 ? `${line.slice(0, 120).toWellFormed()}...` : line;
}
