/**
 * What a model (or a person's terminal) gets to see of a process's bytes: no escape sequence ever, and a bounded size.
 *
 * - A sequence may be split over any number of chunks.
 * - Linear in the input, whatever it holds: an unfinished sequence swallows at most the rest of its line.
 */

/** C0 and C1 control characters and DEL, without tab and line feed. Carriage return needs its neighbour. */
const special = /[^\P{Cc}\t\n]/gu;

const esc = '\x1b';

type State =
  | 'text'
  | 'carriage_return'
  | 'escape'
  /** ESC and intermediates such as `(`: one more character ends it. */
  | 'escape_intermediate'
  | 'control_sequence'
  /** OSC, DCS, PM, APC or SOS: runs to BEL or ST. */
  | 'string'
  | 'string_escape';

/** Takes terminal control sequences and control characters out of a text that comes in pieces. */
export class ControlSequenceFilter {
  #state: State = 'text';

  push(text: string): string {
    let kept = '';
    let index = 0;
    while (index < text.length) {
      if (this.#state === 'text') {
        special.lastIndex = index;
        const next = special.exec(text)?.index ?? text.length;
        kept += text.slice(index, next);
        index = next;
        if (index < text.length) this.#state = afterSpecial(text.charAt(index++));
        continue;
      }
      const step = advance(this.#state, text.charAt(index));
      kept += step.kept;
      this.#state = step.state;
      if (step.consumed) index++;
    }
    return kept;
  }

  end(): string {
    const kept = this.#state === 'carriage_return' ? '\n' : '';
    this.#state = 'text';
    return kept;
  }
}

export function withoutControlSequences(text: string): string {
  const filter = new ControlSequenceFilter();
  return filter.push(text) + filter.end();
}

function afterSpecial(character: string): State {
  switch (character) {
    case esc:
      return 'escape';
    case '\r':
      return 'carriage_return';
    case '\x9b':
      return 'control_sequence';
    case '\x90':
    case '\x98':
    case '\x9d':
    case '\x9e':
    case '\x9f':
      return 'string';
    default:
      return 'text';
  }
}

type Step = { state: State; kept: string; consumed: boolean };

function advance(state: State, character: string): Step {
  const to = (next: State, consumed = true, kept = ''): Step => ({ state: next, kept, consumed });
  switch (state) {
    case 'carriage_return':
      // A line end of DOS stays as it is; a progress bar's carriage return becomes a line of its own.
      return character === '\n' ? to('text', true, '\r\n') : to('text', false, '\n');
    case 'escape':
      if (character === '[') return to('control_sequence');
      if (']PX^_'.includes(character)) return to('string');
      if (isBetween(character, ' ', '/')) return to('escape_intermediate');
      return to('text', isBetween(character, '0', '~'));
    case 'escape_intermediate':
      if (isBetween(character, ' ', '/')) return to('escape_intermediate');
      return to('text', isBetween(character, '0', '~'));
    case 'control_sequence':
      if (isBetween(character, ' ', '?')) return to('control_sequence');
      return to('text', isBetween(character, '@', '~'));
    case 'string':
      if (character === '\x07' || character === '\x9c') return to('text');
      if (character === esc) return to('string_escape');
      return character === '\n' ? to('text', false) : to('string');
    case 'string_escape':
      return character === '\\' ? to('text') : to('escape', false);
    case 'text':
      return to('text', false);
  }
}

function isBetween(character: string, first: string, last: string): boolean {
  return character >= first && character <= last;
}

/** Of a long text a model sees this much: about a third from its head and two thirds from its tail. */
export const modelTextChars = 30_000;

export type Cut = { head: string; tail: string; missingBytes: number };

/** Null where `text` fits. Cuts at line breaks where one is near, and never inside a surrogate pair. */
export function headAndTail(text: string, maxChars: number = modelTextChars): Cut | null {
  if (text.length <= maxChars) return null;
  const headChars = Math.floor(maxChars / 3);
  const head = text.slice(0, headEnd(text, headChars));
  const tail = text.slice(tailStart(text, maxChars - headChars));
  const missing = text.slice(head.length, text.length - tail.length);
  return { head, tail, missingBytes: Buffer.byteLength(missing) };
}

function headEnd(text: string, maxChars: number): number {
  const afterBreak = text.lastIndexOf('\n', maxChars - 1) + 1;
  if (afterBreak > maxChars / 2) return afterBreak;
  return splitsPair(text, maxChars) ? maxChars - 1 : maxChars;
}

function tailStart(text: string, maxChars: number): number {
  const earliest = text.length - maxChars;
  const afterBreak = text.indexOf('\n', earliest - 1) + 1;
  if (afterBreak > 0 && afterBreak - earliest < maxChars / 2) return afterBreak;
  return splitsPair(text, earliest) ? earliest + 1 : earliest;
}

/** Whether a cut before `index` would part a high surrogate from its low one. */
function splitsPair(text: string, index: number): boolean {
  const before = text.charCodeAt(index - 1);
  const after = text.charCodeAt(index);
  return before >= 0xd800 && before <= 0xdbff && after >= 0xdc00 && after <= 0xdfff;
}
