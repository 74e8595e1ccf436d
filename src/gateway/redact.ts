/**
 * Takes real values out of what an upstream answers, so that an echo does not carry one into the sandbox (S1).
 *
 * Exact forms: the value itself, percent-encoded, as in JSON, hex, and base64 at any alignment (so inside a Basic pair
 * too). What an upstream encrypts, compresses inside, reverses or hands out in pieces is not seen: do not bind a secret
 * to a host that would. Streams, and holds back no more than could be the beginning of a value.
 */
import { Transform } from 'node:stream';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import type { CompiledCredential } from './credentials.ts';

type Needle = { find: Buffer; put: Buffer };

export type Redactor = {
  /** True where nothing has to be looked for. */
  idle: boolean;
  /** Every replacement is as long as what it replaces, so lengths announced before still hold. */
  keepsLength: boolean;
  text(value: string): string;
  stream(): Transform;
};

/** What was put into a header, whole (`Basic …`), and what had stood there. */
export type Injected = { real: string; shown: string };

const minBase64Core = 8;
const known = new WeakMap<CompiledCredential, Needle[]>();

export function redactor(
  credentials: readonly CompiledCredential[],
  injected: readonly Injected[] = [],
): Redactor {
  if (failpoints.on && sabotaged('sabotage.no-redaction')) return over([]);
  const needles = credentials.flatMap(needlesOf);
  for (const { real, shown } of injected) needles.push(needle(real, shown));
  return over(needles);
}

/** Puts as many asterisks where a value was: for bytes whose length has been announced. */
export function masker(credentials: readonly CompiledCredential[]): Redactor {
  return over(
    credentials.flatMap(needlesOf).map(({ find }) => ({ find, put: Buffer.alloc(find.length, '*') })),
  );
}

function over(needles: Needle[]): Redactor {
  // The longest first: a Basic pair goes as a whole before the part of it that is the secret.
  needles.sort((a, b) => b.find.length - a.find.length);
  return {
    idle: needles.length === 0,
    keepsLength: needles.every(({ find, put }) => find.length === put.length),
    text: (value) => replaceIn(Buffer.from(value, 'latin1'), needles, true).out.toString('latin1'),
    stream: () => redactingStream(needles),
  };
}

function needle(find: string, put: string): Needle {
  return { find: Buffer.from(find, 'latin1'), put: Buffer.from(put, 'latin1') };
}

function needlesOf(credential: CompiledCredential): Needle[] {
  const cached = known.get(credential);
  if (cached) return cached;
  const { secret, placeholder } = credential;
  const forms = (text: string) => [
    text,
    encodeURIComponent(text),
    encodeURIComponent(text).replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
    JSON.stringify(text).slice(1, -1),
    JSON.stringify(text).slice(1, -1).replaceAll('/', '\\/'),
    Buffer.from(text).toString('hex'),
    Buffer.from(text).toString('hex').toUpperCase(),
  ];
  const shown = forms(placeholder);
  const pairs = new Map<string, string>();
  for (const [at, form] of forms(secret).entries())
    if (!pairs.has(form)) pairs.set(form, shown[at] ?? placeholder);
  for (const alignment of [0, 1, 2]) {
    const core = base64Core(secret, alignment);
    const put = base64Core(placeholder, alignment);
    if (core.length < minBase64Core) continue;
    pairs.set(core, put);
    pairs.set(urlSafe(core), urlSafe(put));
  }
  const needles = [...pairs].map(([find, put]) => needle(find, put));
  known.set(credential, needles);
  return needles;
}

/** The digits of base64 that depend on the text alone, when `alignment` other bytes come before it. */
function base64Core(text: string, alignment: number): string {
  const bytes = Buffer.concat([Buffer.alloc(alignment), Buffer.from(text)]);
  const digits = bytes.toString('base64').replaceAll('=', '');
  const first = [0, 2, 3][alignment] ?? 0;
  const last = bytes.length % 3 === 0 ? digits.length : digits.length - 1;
  return digits.slice(first, last);
}

function urlSafe(base64: string): string {
  return base64.replaceAll('+', '-').replaceAll('/', '_');
}

/** Replaces from left to right, the longest needle where two begin at one place; `rest` may begin one. */
function replaceIn(bytes: Buffer, needles: readonly Needle[], final: boolean): { out: Buffer; rest: Buffer } {
  const parts: Buffer[] = [];
  let at = 0;
  // Where each needle is next; looked up again only once it has been passed.
  const next = needles.map(({ find }) => bytes.indexOf(find));
  const from = final ? bytes.length : begunAt(bytes, needles);
  for (;;) {
    let best = -1;
    for (const [index, one] of needles.entries()) {
      const place = next[index] ?? -1;
      if (place !== -1 && place < at) next[index] = bytes.indexOf(one.find, at);
      const now = next[index] ?? -1;
      if (now !== -1 && (best === -1 || now < (next[best] ?? 0))) best = index;
    }
    const chosen = needles[best];
    const place = next[best] ?? -1;
    // One that begins before this match and is still unfinished may be the longer one, around it.
    if (!chosen || place >= from) break;
    parts.push(bytes.subarray(at, place), chosen.put);
    at = place + chosen.find.length;
  }
  const end = Math.max(at, from);
  parts.push(bytes.subarray(at, end));
  return {
    out: parts.length === 1 ? bytes.subarray(0, end) : Buffer.concat(parts),
    rest: bytes.subarray(end),
  };
}

/** The first place from which to the end all is the beginning of some needle. */
function begunAt(bytes: Buffer, needles: readonly Needle[]): number {
  let first = bytes.length;
  for (const { find } of needles) {
    const head = find[0] ?? 0;
    let at = bytes.indexOf(head, Math.max(0, bytes.length - find.length + 1));
    while (at !== -1 && at < first) {
      if (bytes.subarray(at).equals(find.subarray(0, bytes.length - at))) first = at;
      else at = bytes.indexOf(head, at + 1);
    }
  }
  return first;
}

function redactingStream(needles: readonly Needle[]): Transform {
  let held = Buffer.alloc(0);
  return new Transform({
    transform(chunk: Buffer, _, done) {
      const { out, rest } = replaceIn(
        held.length === 0 ? chunk : Buffer.concat([held, chunk]),
        needles,
        false,
      );
      held = Buffer.from(rest);
      if (out.length > 0) this.push(out);
      done();
    },
    flush(done) {
      const { out } = replaceIn(held, needles, true);
      if (out.length > 0) this.push(out);
      done();
    },
  });
}
