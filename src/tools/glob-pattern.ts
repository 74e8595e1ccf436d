/**
 * Glob patterns as a state machine: `*`, `?`, `[...]`, `{a,b}` (nested, too) and `**` as a whole segment.
 *
 * Matching takes time proportional to path times pattern, whatever they are: all readings of the pattern are followed
 * at once, none is ever tried again. Both come from a model, so this is a promise, not an optimisation.
 */

type Accepts = (character: string) => boolean;

/** A state has an accepted character with a target, or free moves, or neither (the end). */
type State = { accepts: Accepts | null; next: number; free: number[] };

export const maxPatternChars = 500;

export type CompiledGlob = { ok: true; glob: Glob } | { ok: false; message: string };

class GlobError extends Error {}

export function compileGlob(pattern: string): CompiledGlob {
  if (pattern.length > maxPatternChars) {
    return { ok: false, message: `The pattern is longer than ${maxPatternChars} characters.` };
  }
  try {
    return { ok: true, glob: new Glob(new Compiler(pattern).compile()) };
  } catch (error) {
    if (error instanceof GlobError) return { ok: false, message: error.message };
    throw error;
  }
}

/** Matches whole paths relative to the searched directory. Remembers directories, since walks share them. */
export class Glob {
  readonly #states: State[];
  readonly #afterDirectory = new Map<string, number[]>();

  constructor(states: State[]) {
    this.#states = states;
  }

  matches(path: string): boolean {
    const slash = path.lastIndexOf('/');
    const reached = this.#advance(this.#directory(path.slice(0, slash + 1)), path.slice(slash + 1));
    return reached.includes(this.#states.length - 1);
  }

  /** States reached by a directory's path with its final slash. */
  #directory(path: string): number[] {
    const known = this.#afterDirectory.get(path);
    if (known) return known;
    const parentEnd = path.slice(0, -1).lastIndexOf('/') + 1;
    const reached =
      path === ''
        ? this.#closure([0])
        : this.#advance(this.#directory(path.slice(0, parentEnd)), path.slice(parentEnd));
    this.#afterDirectory.set(path, reached);
    return reached;
  }

  #advance(from: number[], text: string): number[] {
    let states = from;
    for (const character of text) {
      if (states.length === 0) break;
      const targets: number[] = [];
      for (const index of states) {
        const state = this.#states[index] as State;
        if (state.accepts?.(character)) targets.push(state.next);
      }
      states = this.#closure(targets);
    }
    return states;
  }

  #closure(from: number[]): number[] {
    const reached = new Set(from);
    // A set grows while it is iterated: this visits what is added, too.
    for (const index of reached) for (const free of (this.#states[index] as State).free) reached.add(free);
    return [...reached];
  }
}

const anything: Accepts = () => true;
const notSlash: Accepts = (character) => character !== '/';

/** Builds the machine front to back; the last state is the end. */
class Compiler {
  readonly #pattern: string[];
  readonly #states: State[] = [];
  #index = 0;

  constructor(pattern: string) {
    this.#pattern = [...pattern];
  }

  compile(): State[] {
    this.#sequence(false);
    this.#state();
    return this.#states;
  }

  /** Until the end, or inside braces until a comma or the closing brace. */
  #sequence(isInBraces: boolean): void {
    while (this.#index < this.#pattern.length) {
      const character = this.#pattern[this.#index] as string;
      if (isInBraces && (character === ',' || character === '}')) return;
      this.#index++;
      this.#piece(character);
    }
    if (isInBraces) throw new GlobError("The pattern has a '{' without its '}'.");
  }

  #piece(character: string): void {
    if (character === '*') this.#star();
    else if (character === '?') this.#one(notSlash);
    else if (character === '[') this.#one(this.#characterClass());
    else if (character === '{') this.#alternatives();
    else if (character === '\\') this.#one(is(this.#pattern[this.#index++] ?? '\\'));
    else this.#one(is(character));
  }

  #state(): number {
    return this.#states.push({ accepts: null, next: 0, free: [] }) - 1;
  }

  #one(accepts: Accepts): void {
    const state = this.#state();
    this.#states[state] = { accepts, next: this.#states.length, free: [] };
  }

  #star(): void {
    const before = this.#pattern[this.#index - 2];
    let stars = 1;
    for (; this.#pattern[this.#index] === '*'; this.#index++) stars++;
    const after = this.#pattern[this.#index];
    const isSegment =
      [undefined, '/', '{', ','].includes(before) && [undefined, '/', '}', ','].includes(after);
    if (stars !== 2 || !isSegment || after !== '/') {
      this.#loop(stars === 2 && isSegment ? anything : notSlash);
      return;
    }
    // `**` and its slash stand for any directories, or none: enter; any characters; a slash; on.
    this.#index++;
    const entry = this.#state();
    this.#loop(anything);
    this.#one(is('/'));
    (this.#states[entry] as State).free.push(entry + 1, this.#states.length);
  }

  /** Any number of what is accepted, none included. */
  #loop(accepts: Accepts): void {
    const state = this.#state();
    this.#states[state] = { accepts, next: state, free: [this.#states.length] };
  }

  #alternatives(): void {
    const entry = this.#state();
    const exits: number[] = [];
    do {
      (this.#states[entry] as State).free.push(this.#states.length);
      this.#sequence(true);
      exits.push(this.#state());
    } while (this.#pattern[this.#index++] === ',');
    for (const exit of exits) (this.#states[exit] as State).free.push(this.#states.length);
  }

  #characterClass(): Accepts {
    const isNegated = ['!', '^'].includes(this.#pattern[this.#index] ?? '');
    if (isNegated) this.#index++;
    const ranges: [string, string][] = [];
    for (let isFirst = true; isFirst || this.#pattern[this.#index] !== ']'; isFirst = false) {
      const first = this.#classMember();
      const isRange =
        this.#pattern[this.#index] === '-' && ![undefined, ']'].includes(this.#pattern[this.#index + 1]);
      if (isRange) this.#index++;
      ranges.push([first, isRange ? this.#classMember() : first]);
    }
    this.#index++;
    const isInside: Accepts = (character) =>
      ranges.some(([low, high]) => character >= low && character <= high);
    return (character) => character !== '/' && isInside(character) !== isNegated;
  }

  #classMember(): string {
    const character = this.#pattern[this.#index++];
    const member = character === '\\' ? this.#pattern[this.#index++] : character;
    if (member === undefined) throw new GlobError("The pattern has a '[' without its ']'.");
    return member;
  }
}

function is(wanted: string): Accepts {
  return (character) => character === wanted;
}
