/**
 * Glob patterns as a state machine: `*`, `?`, `[...]`, `{a,b}` (nested, too) and `**` as a whole segment.
 *
 * Matching takes time proportional to path times pattern, whatever they are: all readings of the pattern are followed
 * at once, none is ever tried again, and there is an end to all work. Both come from a model, so this is a promise, not
 * an optimisation.
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

/** All readings of the pattern that are still possible at a place in a path. */
type Reached = { states: number[]; isMatch: boolean; next: Map<string, Reached> };

/** About a second of work; a pattern that a person would write stays below a thousandth of it. */
const maxSteps = 30_000_000;
/** Each is remembered. */
const maxReached = 20_000;

/** Matches whole paths relative to the searched directory. Remembers what it met, since paths resemble each other. */
export class Glob {
  readonly #states: State[];
  readonly #known = new Map<string, Reached>();
  readonly #afterDirectory = new Map<string, Reached>();
  /** For each state, in which closure it was met last. */
  readonly #metIn: Uint32Array;
  #closures = 0;
  #steps = 0;

  constructor(states: State[]) {
    this.#states = states;
    this.#metIn = new Uint32Array(states.length);
    this.#afterDirectory.set('', this.#closure([0]));
  }

  /** Nothing matches any more once pattern and paths together took too much work. */
  get isExhausted(): boolean {
    return this.#steps > maxSteps || this.#known.size > maxReached;
  }

  matches(path: string): boolean {
    const slash = path.lastIndexOf('/');
    return this.#advance(this.#directory(path.slice(0, slash + 1)), path.slice(slash + 1)).isMatch;
  }

  /** `path` with its final slash. */
  #directory(path: string): Reached {
    const known = this.#afterDirectory.get(path);
    if (known) return known;
    const parentEnd = path.slice(0, -1).lastIndexOf('/') + 1;
    const reached = this.#advance(this.#directory(path.slice(0, parentEnd)), path.slice(parentEnd));
    this.#afterDirectory.set(path, reached);
    return reached;
  }

  #advance(from: Reached, text: string): Reached {
    let reached = from;
    for (const character of text) {
      const known = reached.next.get(character);
      const next: Reached = known ?? this.#step(reached, character);
      if (!known) reached.next.set(character, next);
      reached = next;
    }
    return reached;
  }

  #step(from: Reached, character: string): Reached {
    if (this.isExhausted) return this.#closure([]);
    const targets: number[] = [];
    for (const index of from.states) {
      const state = this.#states[index] as State;
      if (state.accepts?.(character)) targets.push(state.next);
    }
    this.#steps += from.states.length;
    return this.#closure(targets);
  }

  #closure(from: number[]): Reached {
    const met = ++this.#closures;
    const states: number[] = [];
    const meet = (index: number): void => {
      if (this.#metIn[index] === met) return;
      this.#metIn[index] = met;
      states.push(index);
    };
    from.forEach(meet);
    for (let at = 0; at < states.length; at++)
      (this.#states[states[at] as number] as State).free.forEach(meet);
    this.#steps += states.length;
    states.sort((a, b) => a - b);
    const key = states.join();
    const known = this.#known.get(key);
    if (known) return known;
    const reached = { states, isMatch: this.#metIn[this.#states.length - 1] === met, next: new Map() };
    this.#known.set(key, reached);
    return reached;
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
