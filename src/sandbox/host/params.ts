/** Parameters of the host's methods, each checked by hand; an error names the parameter and what it must be. */
import type { Edit, Limits, SandboxSpec } from '../executor.ts';

export class ParamError extends Error {
  override name = 'ParamError';
}

const MAX_PATH_CHARS = 4096;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export class Params {
  readonly #values: Record<string, unknown>;
  readonly #where: string;

  constructor(values: unknown, where = 'params') {
    if (typeof values !== 'object' || values === null || Array.isArray(values))
      throw new ParamError(`${where} must be an object`);
    this.#values = values as Record<string, unknown>;
    this.#where = where;
  }

  #fail(name: string, must: string): never {
    throw new ParamError(`${this.#where}.${name} must be ${must}`);
  }

  has(name: string): boolean {
    return this.#values[name] !== undefined;
  }

  isText(name: string): boolean {
    return typeof this.#values[name] === 'string';
  }

  isNull(name: string): boolean {
    return this.#values[name] === null;
  }

  string(name: string, maxChars: number, pattern = /^[^\0]*$/): string {
    const value = this.#values[name];
    if (typeof value !== 'string' || value.length > maxChars || !pattern.test(value))
      this.#fail(name, `a string of at most ${maxChars} characters that matches ${pattern.source}`);
    return value;
  }

  path(name: string): string {
    return this.string(name, MAX_PATH_CHARS, /^\/[^\0]*$/);
  }

  integer(name: string, least: number, most: number): number {
    const value = this.#values[name];
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most)
      this.#fail(name, `an integer from ${least} to ${most}`);
    return value as number;
  }

  number(name: string, least: number, most: number): number {
    const value = this.#values[name];
    if (typeof value !== 'number' || !(value >= least && value <= most))
      this.#fail(name, `a number from ${least} to ${most}`);
    return value;
  }

  /** Time to wait; the longest is what a timer can hold. */
  milliseconds(name: string, least = 0): number {
    return this.integer(name, least, MAX_TIMEOUT_MS);
  }

  boolean(name: string): boolean {
    const value = this.#values[name];
    if (typeof value !== 'boolean') this.#fail(name, 'true or false');
    return value;
  }

  bytes(name: string, maxBytes: number): Buffer {
    const value = this.#values[name];
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) this.#fail(name, 'base64');
    if (value.length > Math.ceil(maxBytes / 3) * 4) this.#fail(name, `at most ${maxBytes} bytes`);
    return Buffer.from(value, 'base64');
  }

  array(name: string, most: number): unknown[] {
    const value = this.#values[name];
    if (!Array.isArray(value) || value.length > most) this.#fail(name, `an array of at most ${most}`);
    return value;
  }

  strings(name: string, most: number, maxChars: number): string[] {
    const values = this.array(name, most);
    for (const value of values)
      if (typeof value !== 'string' || value.length > maxChars || value.includes('\0'))
        this.#fail(name, `strings of at most ${maxChars} characters without NUL`);
    return values as string[];
  }

  object(name: string): Params {
    return new Params(this.#values[name], `${this.#where}.${name}`);
  }

  /** Of an array that was found to be one. */
  item(name: string, at: number): Params {
    return new Params((this.#values[name] as unknown[])[at], `${this.#where}.${name}[${at}]`);
  }

  names(): string[] {
    return Object.keys(this.#values);
  }

  /** Variables: names as a shell takes them, values without NUL. */
  environment(name: string): Record<string, string> {
    const value = this.#values[name];
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      this.#fail(name, 'an object of strings');
    const entries = Object.entries(value);
    if (entries.length > 1000) this.#fail(name, 'at most 1000 variables');
    for (const [key, text] of entries) {
      const isFine = typeof text === 'string' && text.length <= 128 << 10 && !text.includes('\0');
      if (!isFine || !/^[A-Za-z_][A-Za-z0-9_]*$/.test(key))
        this.#fail(name, `names and strings (see "${key}")`);
    }
    return Object.fromEntries(entries) as Record<string, string>;
  }

  oneOf<T extends string>(name: string, words: readonly T[]): T {
    const value = this.#values[name];
    if (!words.includes(value as T)) this.#fail(name, `one of ${words.join(', ')}`);
    return value as T;
  }
}

/** Session ids become folder names, so they hold no dot and no slash. */
export function takeSession(p: Params): { session: string; fence: number } {
  return {
    session: p.string('session', 128, /^[A-Za-z0-9_-]+$/),
    fence: p.integer('fence', 0, Number.MAX_SAFE_INTEGER),
  };
}

export function takeCall(p: Params): { session: string; fence: number; callId: string } {
  return { ...takeSession(p), callId: p.string('callId', 256, /^[^\0]+$/) };
}

function takeLimits(p: Params): Limits {
  const mebi = 1 << 20;
  return {
    memoryBytes: p.integer('memoryBytes', 16 * mebi, 2 ** 50),
    processes: p.integer('processes', 4, 1 << 16),
    openFiles: p.integer('openFiles', 32, 1 << 20),
    tmpBytes: p.integer('tmpBytes', 64 << 10, 2 ** 50),
    fileBytes: p.integer('fileBytes', mebi, 2 ** 50),
    ...(p.has('diskBytes') ? { diskBytes: p.integer('diskBytes', 16 * mebi, 2 ** 50) } : {}),
    ...(p.has('cpuCores') ? { cpuCores: p.number('cpuCores', 0.01, 1024) } : {}),
    ...(p.has('outputBytes') ? { outputBytes: p.integer('outputBytes', 1, 2 ** 32) } : {}),
    ...(p.has('wallTimeMs') ? { wallTimeMs: p.milliseconds('wallTimeMs', 1) } : {}),
    ...(p.has('idleTimeMs') ? { idleTimeMs: p.milliseconds('idleTimeMs', 1) } : {}),
    ...(p.has('lifetimeMs') ? { lifetimeMs: p.milliseconds('lifetimeMs', 1) } : {}),
  };
}

function takeNetwork(p: Params): NonNullable<SandboxSpec['network']> {
  if (p.oneOf('kind', ['none', 'gateway']) === 'none') return { kind: 'none' };
  return {
    kind: 'gateway',
    ticket: p.string('ticket', 256, /^[!-~]+$/),
    authorityPem: p.string(
      'authorityPem',
      64 << 10,
      /^-----BEGIN CERTIFICATE-----\n[^\0]+-----END CERTIFICATE-----\s*$/,
    ),
  };
}

function takeLayer(p: Params): NonNullable<SandboxSpec['layer']> {
  return p.isText('layer')
    ? p.oneOf('layer', ['build'] as const)
    : { digest: p.object('layer').string('digest', 64, /^[0-9a-f]{64}$/) };
}

export function takeSpec(p: Params): SandboxSpec {
  return {
    ...(p.has('network') ? { network: takeNetwork(p.object('network')) } : {}),
    ...(p.has('layer') ? { layer: takeLayer(p) } : {}),
    ...takeSession(p),
    isolation: p.oneOf('isolation', ['bubblewrap', 'gvisor', 'none']),
    limits: takeLimits(p.object('limits')),
    env: p.environment('env'),
  };
}

const MAX_EDITS = 1000;
const MAX_EDIT_BYTES = 24 << 20;

export function takeEdits(p: Params): Edit[] {
  return p.array('edits', MAX_EDITS).map((value, i) => {
    const e = new Params(value, `params.edits[${i}]`);
    const edit: Edit = {
      path: e.path('path'),
      content: e.isNull('content') ? null : e.bytes('content', MAX_EDIT_BYTES),
    };
    if (e.isNull('expectSha256')) edit.expectSha256 = null;
    else if (e.has('expectSha256')) edit.expectSha256 = e.string('expectSha256', 64, /^[0-9a-f]{64}$/);
    if (e.has('mode')) edit.mode = e.integer('mode', 0, 0o777);
    return edit;
  });
}
