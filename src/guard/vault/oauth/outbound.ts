/**
 * The vault's own requests, to token endpoints and MCP servers: bounded in time and size, no redirect followed (a secret
 * goes to the server that was named and to no other), and never to a link-local address, where clouds answer with
 * credentials of the machine.
 *
 * Contract: every ending is a value. `unsent`: nothing of the request can have arrived. `lost`: it may have.
 */
import type { LookupAddress, LookupOptions } from 'node:dns';
import { lookup as resolveName } from 'node:dns';
import type { IncomingMessage } from 'node:http';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { isIP } from 'node:net';
import type { AddressRules } from '../../../gateway/addresses.ts';
import { addressRules } from '../../../gateway/addresses.ts';
import { isLoopback } from '../../../protocol/vaults.ts';

export type OutboundRequest = { url: string; headers: Record<string, string>; body: string };

export type OutboundAnswer =
  | { kind: 'response'; status: number; contentType: string; body: string; isTruncated: boolean }
  | { kind: 'unsent'; message: string }
  | { kind: 'lost'; message: string };

export type Outbound = (request: OutboundRequest) => Promise<OutboundAnswer>;

export type OutboundLimits = {
  timeoutMs: number;
  maxBytes: number;
  /** Loopback and private IPv4 addresses too, and http to loopback. Link-local ones never. */
  allowPrivate: boolean;
  /** Certificates to trust besides the system's (PEM). */
  ca?: string;
};

export const outboundDefaults: OutboundLimits = {
  timeoutMs: 15_000,
  maxBytes: 64 * 1024,
  allowPrivate: false,
};

export function outbound(limits: OutboundLimits): Outbound {
  const rules = addressRules(limits.allowPrivate ? privateRanges : []);
  return (request) => {
    const url = new URL(request.url);
    if (url.protocol !== 'https:' && !(limits.allowPrivate && isLoopback(url.hostname)))
      return Promise.resolve({ kind: 'unsent', message: 'only https is spoken' });
    const name = url.hostname.replace(/^\[|\]$/g, '');
    if (isIP(name) !== 0 && !rules.mayDial(name))
      return Promise.resolve({ kind: 'unsent', message: forbidden });
    return send(url, request, limits, rules);
  };
}

const forbidden = 'the address is a private one';

const privateRanges = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '::1/128',
];

function send(
  url: URL,
  { headers, body }: OutboundRequest,
  limits: OutboundLimits,
  rules: AddressRules,
): Promise<OutboundAnswer> {
  return new Promise((resolve) => {
    let isConnected = false;
    const signal = AbortSignal.timeout(limits.timeoutMs);
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const options = {
      method: 'POST',
      headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
      lookup: lookupWithin(rules),
      signal,
      // A connection of its own: whether it was made says whether anything was sent.
      agent: false as const,
      ...(limits.ca === undefined ? {} : { ca: limits.ca }),
    };
    const end = (error: unknown) => {
      const message = signal.aborted ? `no answer within ${limits.timeoutMs} ms` : reasonOf(error);
      resolve({ kind: isConnected ? 'lost' : 'unsent', message });
    };
    const request = start(url, options, (response) => {
      readAnswer(response, limits.maxBytes).then(resolve, end);
    });
    request.on('error', end);
    request.on('socket', (socket) => {
      socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', () => {
        isConnected = true;
      });
    });
    request.end(body);
  });
}

async function readAnswer(response: IncomingMessage, maxBytes: number): Promise<OutboundAnswer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  const contentType = (response.headers['content-type'] ?? '').slice(0, 200);
  // A stream of events need not end; that it began is the answer.
  if (contentType.startsWith('text/event-stream')) {
    response.destroy();
    return { kind: 'response', status: response.statusCode ?? 0, contentType, body: '', isTruncated: true };
  }
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > maxBytes) {
      response.destroy();
      break;
    }
  }
  const bytes = Buffer.concat(chunks);
  return {
    kind: 'response',
    status: response.statusCode ?? 0,
    contentType,
    body: bytes.subarray(0, maxBytes).toString('utf8'),
    isTruncated: bytes.length > maxBytes,
  };
}

/** Judges the addresses that are really connected to: a name can not point elsewhere a moment later. */
function lookupWithin(rules: AddressRules): LookupFunction {
  return (hostname, options: LookupOptions, done) => {
    resolveName(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error) return done(error, '', 0);
      const allowed = addresses.filter(({ address }) => rules.mayDial(address));
      const [first] = allowed;
      if (first === undefined) return done(new Error(forbidden), '', 0);
      if (options.all) return done(null, allowed);
      done(null, first.address, first.family);
    });
  };
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message.slice(0, 200);
}
