/** One request of a sandbox and the way its answer goes back, whatever version of HTTP it came in. */
import type { Readable, Writable } from 'node:stream';
import type { Carriage, LiveSession } from './session.ts';

/** In the order received; a name may stand more than once. */
export type HeaderList = [name: string, value: string][];

/** Whom the connection is for; each request must name it. */
export type Place = { session: LiveSession; carriage: Carriage; secure: boolean };

export type Answer = {
  /** 100, where the client waits for it. */
  goOn(): void;
  head(status: number, headers: HeaderList): void;
  /** After the head. */
  body: Writable;
  /** Before the body's end. */
  trailers(headers: HeaderList): void;
  headSent(): boolean;
  /** Breaks off, so that the client sees that something is missing. */
  abort(): void;
};

export type Exchange = Place & {
  method: string;
  /** Path and query. */
  target: string;
  headers: HeaderList;
  body: Readable;
  hasBody: boolean;
  /** Once the body has ended. */
  trailers(): HeaderList;
  answer: Answer;
};

/** Of one connection, never of a message; and what only a proxy of the client's own would be told. */
const hopByHop = [
  ...[
    'connection',
    'keep-alive',
    'proxy-connection',
    'proxy-authenticate',
    'proxy-authorization',
    'te',
    'trailer',
  ],
  ...['transfer-encoding', 'upgrade', 'http2-settings', 'alt-svc'],
];

/** Also without those that `Connection` names. */
export function endToEnd(headers: HeaderList): HeaderList {
  const named = headers
    .filter(([name]) => name.toLowerCase() === 'connection')
    .flatMap(([, value]) => value.split(',').map((one) => one.trim().toLowerCase()));
  const dropped = new Set([...hopByHop, ...named]);
  return headers.filter(([name]) => !dropped.has(name.toLowerCase()));
}

export function valuesOf(headers: HeaderList, wanted: string): string[] {
  return headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
}

export function without(headers: HeaderList, ...names: string[]): HeaderList {
  return headers.filter(([name]) => !names.includes(name.toLowerCase()));
}

/** Node's flat list of names and values, in pairs. */
export function pairs(flat: readonly string[]): HeaderList {
  return Array.from({ length: flat.length >> 1 }, (_, at) => [flat[at * 2] ?? '', flat[at * 2 + 1] ?? '']);
}

/** Does the text name this place: the host, with its port where that is not the scheme's own? */
export function namesPlace(authority: string, { carriage, secure }: Place): boolean {
  const { host, port } = carriage;
  const text = authority.toLowerCase();
  if (text === `${host}:${port}`) return true;
  return text === host && port === (secure ? 443 : 80);
}

/**
 * Node's HTTP throws on what its own parsers have let through (a status of 600, two content types in HTTP/2, a trailer
 * beside a length). No peer may end this process by that: the exchange ends instead.
 */
export function attempt(exchange: Exchange, act: () => void): void {
  try {
    act();
  } catch {
    exchange.answer.abort();
  }
}
