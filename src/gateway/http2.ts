/** HTTP/2 from a sandbox: each stream becomes an exchange; every one must name the host its connection was opened for. */
import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { Duplex } from 'node:stream';
import { type Answer, type Exchange, type HeaderList, type Place, pairs, valuesOf } from './exchange.ts';

const settings = { maxConcurrentStreams: 100, maxHeaderListSize: 64 * 1024, enableConnectProtocol: false };
const notInHttp2 = ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade'];

export function serveHttp2(
  socket: Duplex,
  place: Place,
  take: (exchange: Exchange) => Promise<void>,
): ServerHttp2Session {
  const session = performServerHandshake(socket, { settings, maxSessionMemory: 16, maxHeaderListPairs: 256 });
  session.on('error', () => session.destroy());
  session.on('stream', (stream: ServerHttp2Stream, ...rest: [IncomingHttpHeaders, number, string[]]) => {
    stream.on('error', () => undefined);
    const [, flags, raw] = rest;
    const ended = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    void take(exchangeOf(stream, pairs(raw), ended, place));
  });
  return session;
}

function exchangeOf(stream: ServerHttp2Stream, list: HeaderList, ended: boolean, place: Place): Exchange {
  let trailers: HeaderList = [];
  stream.on('trailers', (...given: [IncomingHttpHeaders, number, string[]?]) => {
    trailers = given[2]
      ? pairs(given[2])
      : Object.entries(given[0]).map(([name, one]) => [name, String(one)]);
  });
  const [authority] = valuesOf(list, ':authority');
  const plain = list.filter(([name]) => !name.startsWith(':'));
  const hosts = valuesOf(plain, 'host');
  // Two names for one host would let one be judged and the other be served.
  const named = [...new Set([...(authority === undefined ? [] : [authority]), ...hosts])];
  const headers = joinCookies(plain.filter(([name]) => name !== 'host' && !notInHttp2.includes(name)));
  return {
    ...place,
    method: valuesOf(list, ':method')[0] ?? '',
    target: valuesOf(list, ':path')[0] ?? '',
    headers: [...named.map((one): [string, string] => ['host', one]), ...headers],
    body: stream,
    hasBody: !ended,
    trailers: () => trailers,
    answer: answerOf(stream),
  };
}

/** HTTP/2 may send cookies one by one; HTTP/1.1 has one header for them. */
function joinCookies(headers: HeaderList): HeaderList {
  const cookies = valuesOf(headers, 'cookie');
  if (cookies.length < 2) return headers;
  return [...headers.filter(([name]) => name !== 'cookie'), ['cookie', cookies.join('; ')]];
}

function answerOf(stream: ServerHttp2Stream): Answer {
  let trailers: HeaderList = [];
  return {
    goOn: () => {
      if (!stream.closed && !stream.headersSent) stream.additionalHeaders({ ':status': 100 });
    },
    head: (status, headers) => {
      // Closed by its client, and not destroyed yet: node would throw.
      if (stream.closed || stream.destroyed) return;
      stream.once('wantTrailers', () => {
        try {
          stream.sendTrailers(grouped(trailers));
        } catch {
          stream.close(constants.NGHTTP2_INTERNAL_ERROR);
        }
      });
      stream.respond({ ':status': status, ...grouped(headers) }, { waitForTrailers: true });
    },
    body: stream,
    trailers: (headers) => {
      trailers = headers;
    },
    headSent: () => stream.headersSent,
    abort: () => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
  };
}

function grouped(headers: HeaderList): Record<string, string | string[]> {
  const groups: Record<string, string | string[]> = {};
  for (const [name, value] of headers) {
    const key = name.toLowerCase();
    if (notInHttp2.includes(key)) continue;
    const before = groups[key];
    groups[key] = before === undefined ? value : [before, value].flat();
  }
  return groups;
}
