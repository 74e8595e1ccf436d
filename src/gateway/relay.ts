/** Brings an upstream's answer back, with the real values taken out of head, body and trailers (S1). */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import type { DecisionKey } from './decisions.ts';
import { attempt, type Exchange, endToEnd, type HeaderList, pairs, valuesOf, without } from './exchange.ts';
import type { Redactor } from './redact.ts';

type Outgoing = { redact: Redactor; key: DecisionKey };

const decoders = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
};

export function cleanHeaders(headers: HeaderList, redact: Redactor): HeaderList {
  if (redact.idle) return headers;
  // A name is lowered on its way, so a value in one is not found by its letters: such a header is left out.
  return headers
    .filter(([name]) => redact.text(name) === name)
    .map(([name, value]) => [name, redact.text(value)]);
}

export function relayAnswer(exchange: Exchange, response: IncomingMessage, outgoing: Outgoing): void {
  const { answer, session, method } = exchange;
  const { redact, key } = outgoing;
  const status = response.statusCode ?? 502;
  let headers = cleanHeaders(endToEnd(pairs(response.rawHeaders)), redact);
  const bodiless = method === 'HEAD' || status === 204 || status === 304;
  const stages = bodiless ? [] : isPlainlySent(response) ? readable(headers, redact) : null;
  if (!stages) {
    response.destroy();
    answer.abort();
    return;
  }
  if (stages.length > 1) headers = without(headers, 'content-encoding');
  if (stages.length > 1 || (stages.length > 0 && !redact.keepsLength))
    headers = without(headers, 'content-length');
  answer.head(status, headers);
  session.carried(
    key,
    0,
    headers.reduce((sum, [name, value]) => sum + name.length + value.length + 4, 32),
  );
  response.on('data', (chunk: Buffer) => session.carried(key, 0, chunk.length));
  let last: Readable = response;
  for (const stage of stages) last = last.pipe(stage.on('error', () => answer.abort()));
  response.on('error', () => answer.abort());
  response.on('close', () => {
    if (!response.complete) answer.abort();
  });
  last.pipe(answer.body, { end: false });
  last.on('end', () => {
    attempt(exchange, () => {
      const trailers = cleanHeaders(endToEnd(pairs(response.rawTrailers)), redact);
      if (trailers.length > 0) answer.trailers(trailers);
      answer.body.end();
    });
  });
}

/** Coded on its way (`Transfer-Encoding: gzip, chunked`), a body is neither read here nor said to be coded further on. */
function isPlainlySent(response: IncomingMessage): boolean {
  const codings = valuesOf(pairs(response.rawHeaders), 'transfer-encoding');
  return codings.length < 2 && codings.every((one) => one.trim().toLowerCase() === 'chunked');
}

/** What a body passes on its way; null where it cannot be read, and so not be cleaned (S4). */
function readable(headers: HeaderList, redact: Redactor) {
  if (redact.idle) return [];
  const encoding = valuesOf(headers, 'content-encoding').join(',').trim().toLowerCase();
  if (encoding === '' || encoding === 'identity') return [redact.stream()];
  const decoder = Object.entries(decoders).find(([name]) => name === encoding)?.[1];
  return decoder ? [decoder(), redact.stream()] : null;
}
