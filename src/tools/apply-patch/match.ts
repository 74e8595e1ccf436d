/**
 * Where the hunks of an update belong in a file, and what the file then holds. Pure.
 *
 * - Lines are compared in steps, the strictest first over the whole rest of the file: exact; without trailing white
 *   space; without any outer white space; with typographic punctuation read as ASCII.
 * - Context keeps the file's own bytes, however loosely it was matched; added lines get the file's kind of line end.
 * - Work is bounded by file times hunks, for any file and any patch: both come from a model.
 */
import type { Hunk } from './parse.ts';

export type Updated = { ok: true; text: string } | { ok: false; message: string };

/** About half a second of comparing; an honest patch stays below a thousandth of it. */
const maxComparisons = 200_000_000;

type Placed = { start: number; hunk: Hunk };

/** `end` is the line's own line break, empty for a last line without one. */
type Line = { text: string; end: string };

export function applyHunks(text: string, hunks: readonly Hunk[], shownPath: string): Updated {
  const lines = splitLines(text);
  if (lines.length * hunks.length > maxComparisons) {
    return { ok: false, message: `${shownPath} has too many lines for a patch with so many hunks.` };
  }
  const file = new SearchableLines(lines.map((line) => line.text));
  const placed: Placed[] = [];
  let from = 0;
  for (const hunk of hunks) {
    const found = place(file, hunk, from);
    if (!found.ok) return { ok: false, message: `${shownPath}: ${found.message}` };
    placed.push(found);
    from = found.start + oldLines(found.hunk).length;
  }
  return { ok: true, text: joinLines(replaced(lines, placed)) };
}

function place(
  file: SearchableLines,
  hunk: Hunk,
  from: number,
): ({ ok: true } & Placed) | { ok: false; message: string } {
  let start = from;
  for (const anchor of hunk.anchors) {
    const at = file.find([anchor], start);
    if (at === null) {
      const where = `the line '${anchor}' (hunk at line ${hunk.patchLine} of the patch)`;
      return { ok: false, message: `${where} is not there${afterwards(start)}.` };
    }
    start = at + 1;
  }
  const old = oldLines(hunk);
  if (old.length === 0) {
    // Added lines without context go behind their anchor, or to the end of the file.
    const isAfterAnchor = hunk.anchors.length > 0 && !hunk.isAtEnd;
    return { ok: true, hunk, start: isAfterAnchor ? start : file.count };
  }
  const at = findHunk(file, old, start, hunk.isAtEnd);
  if (at !== null) return { ok: true, hunk, start: at };
  const last = hunk.lines.at(-1);
  if (old.length > 1 && last?.sign === ' ' && last.text === '') {
    // A last empty context line often stands for nothing but the end of the hunk.
    const shorter = findHunk(file, old.slice(0, -1), start, hunk.isAtEnd);
    if (shorter !== null)
      return { ok: true, hunk: { ...hunk, lines: hunk.lines.slice(0, -1) }, start: shorter };
  }
  return { ok: false, message: notThere(file, hunk, start) };
}

function findHunk(file: SearchableLines, old: string[], start: number, isAtEnd: boolean): number | null {
  const lastStart = file.count - old.length;
  const atEnd = isAtEnd && lastStart >= start ? file.find(old, lastStart) : null;
  // Models say `End of File` of hunks near the end, too; a hunk elsewhere is still the one they mean.
  return atEnd ?? file.find(old, start);
}

function oldLines(hunk: Hunk): string[] {
  return hunk.lines.filter((line) => line.sign !== '+').map((line) => line.text);
}

function notThere(file: SearchableLines, hunk: Hunk, start: number): string {
  const old = oldLines(hunk);
  const first = old.find((line) => line.trim() !== '');
  const near = first === undefined ? null : file.find([first], 0);
  const hint =
    near === null
      ? ''
      : `\nThe first of them is at line ${near + 1} of the file; what follows differs, or the hunks are not in the file's order.`;
  const which = `these lines (hunk at line ${hunk.patchLine} of the patch) are not there${afterwards(start)}`;
  return `${which}:\n${old.map((line) => `  ${line}`).join('\n')}${hint}`;
}

function afterwards(start: number): string {
  return start > 0 ? ` after line ${start} of the file` : '';
}

const typographic: [RegExp, string][] = [
  [/[\u2010-\u2015\u2212]/g, '-'],
  [/[\u2018-\u201b]/g, "'"],
  [/[\u201c-\u201f]/g, '"'],
  [/[\u00a0\u2002-\u200a\u202f\u205f\u3000]/g, ' '],
];

const readings: ((line: string) => string)[] = [
  (line) => line,
  (line) => line.trimEnd(),
  (line) => line.trim(),
  (line) => typographic.reduce((text, [odd, plain]) => text.replace(odd, plain), line).trim(),
];

/** A file's lines as numbers, one set per reading, so that looking for lines is comparing numbers. */
class SearchableLines {
  readonly #texts: string[];
  readonly #numbered: { known: Map<string, number>; numbers: number[] }[] = [];

  constructor(texts: string[]) {
    this.#texts = texts;
  }

  get count(): number {
    return this.#texts.length;
  }

  /** First place at or after `from` where `wanted` is, by the strictest reading that finds any. */
  find(wanted: string[], from: number): number | null {
    if (from + wanted.length > this.count) return null;
    for (const [index, reading] of readings.entries()) {
      const { known, numbers } = this.#numbers(index, reading);
      const pattern = wanted.map((line) => known.get(reading(line)));
      if (!pattern.every((number) => number !== undefined)) continue;
      const at = indexOfSequence(numbers, pattern, from);
      if (at !== null) return at;
    }
    return null;
  }

  #numbers(
    index: number,
    reading: (line: string) => string,
  ): { known: Map<string, number>; numbers: number[] } {
    const done = this.#numbered[index];
    if (done) return done;
    const known = new Map<string, number>();
    const numbers = this.#texts.map((line) => {
      const text = reading(line);
      const number = known.get(text) ?? known.size;
      known.set(text, number);
      return number;
    });
    this.#numbered[index] = { known, numbers };
    return { known, numbers };
  }
}

/** Knuth, Morris and Pratt: linear for any input. */
function indexOfSequence(numbers: number[], pattern: number[], from: number): number | null {
  const borders = bordersOf(pattern);
  let matched = 0;
  for (let index = from; index < numbers.length; index++) {
    while (matched > 0 && numbers[index] !== pattern[matched]) matched = borders[matched - 1] ?? 0;
    if (numbers[index] === pattern[matched]) matched++;
    if (matched === pattern.length) return index - matched + 1;
  }
  return null;
}

/** For each prefix, the length of its longest proper prefix that also ends it. */
function bordersOf(pattern: number[]): number[] {
  const borders = [0];
  let length = 0;
  for (let index = 1; index < pattern.length; index++) {
    while (length > 0 && pattern[index] !== pattern[length]) length = borders[length - 1] ?? 0;
    if (pattern[index] === pattern[length]) length++;
    borders.push(length);
  }
  return borders;
}

function replaced(lines: Line[], placed: Placed[]): Line[] {
  const lineEnd = commonLineEnd(lines);
  const result: Line[] = [];
  let next = 0;
  const keepUntil = (end: number): void => {
    for (; next < end; next++) result.push(lines[next] as Line);
  };
  for (const { start, hunk } of placed) {
    keepUntil(start);
    for (const { sign, text } of hunk.lines) {
      if (sign === '+') result.push({ text, end: lineEnd });
      else if (sign === ' ') keepUntil(next + 1);
      else next++;
    }
  }
  keepUntil(lines.length);
  return result.map((line, index) =>
    line.end === '' && index < result.length - 1 ? { ...line, end: lineEnd } : line,
  );
}

function splitLines(text: string): Line[] {
  const lines: Line[] = [];
  for (let start = 0; start < text.length; ) {
    const lineBreak = text.indexOf('\n', start);
    const next = lineBreak < 0 ? text.length : lineBreak + 1;
    const endStart =
      lineBreak < 0 ? next : text[lineBreak - 1] === '\r' && lineBreak > start ? lineBreak - 1 : lineBreak;
    lines.push({ text: text.slice(start, endStart), end: text.slice(endStart, next) });
    start = next;
  }
  return lines;
}

function commonLineEnd(lines: Line[]): string {
  const dos = lines.filter((line) => line.end === '\r\n').length;
  return dos * 2 > lines.length ? '\r\n' : '\n';
}

function joinLines(lines: Line[]): string {
  return lines.map((line) => line.text + line.end).join('');
}
