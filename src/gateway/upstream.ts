/**
 * Dials the real peer on the gateway's side (S1, S2). A name is resolved here, its addresses are judged, and the very
 * address that was judged is dialled: no second look-up, so nothing to rebind. TLS is always verified against the name
 * the rule was decided for; there is no setting that says otherwise.
 */
import { isIP, type Socket, connect as tcpConnect } from 'node:net';
import { createSecureContext, getCACertificates, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { failpoints, sabotaged } from '../protocol/failpoint.ts';
import { type AddressRules, addressRules } from './addresses.ts';
import { canonicalName } from './pattern.ts';
import { openResolver } from './resolver.ts';

/** All addresses of a name; rejects where there are none. */
export type Resolve = (name: string) => Promise<string[]>;

export type UpstreamSettings = {
  /** Tests hand in their own. */
  resolve?: Resolve;
  /** Operator's: `name=address` or `name=address:port`; that name is dialled there, private or not. */
  pins?: readonly string[];
  /** Operator's: ranges that may be dialled although they are not public. */
  privateRanges?: readonly string[];
  /** Authorities believed besides the system's. PEM. */
  extraAuthorities?: readonly string[];
  /** For resolving, and for each address tried. */
  dialTimeoutMs?: number;
};

/** Why there is no connection. `private`: only addresses that may not be dialled. `untrusted`: its certificate. */
export type DialFailure = {
  failure: 'unresolved' | 'private' | 'unreachable' | 'untrusted';
  message: string;
};

export type Upstream = {
  dial(host: string, port: number): Promise<Socket | DialFailure>;
  /** Verified; `alpn` is what we offer. */
  dialTls(host: string, port: number, alpn: readonly string[]): Promise<TLSSocket | DialFailure>;
};

type Target = { address: string; port: number };

const maxAddresses = 4;

export function isFailure(value: object): value is DialFailure {
  return 'failure' in value;
}

/** Throws for malformed settings. */
export function openUpstream(settings: UpstreamSettings = {}): Upstream {
  const { dialTimeoutMs = 10_000 } = settings;
  const resolve = settings.resolve ?? openResolver();
  const addresses = addressRules(settings.privateRanges);
  const pins = new Map((settings.pins ?? []).map(parsePin));
  const extra = settings.extraAuthorities ?? [];
  // One context for all: to parse some 140 roots takes 35 ms.
  const secureContext = createSecureContext({
    ca: [...getCACertificates('default'), ...extra.map((pem) => `${pem.trimEnd()}\n`)],
    minVersion: 'TLSv1.2',
  });

  const dial = async (host: string, port: number) => {
    const targets = await findTargets({ host, port, pins, resolve, addresses, dialTimeoutMs });
    if (!Array.isArray(targets)) return targets;
    for (const target of targets) {
      const socket = await dialOne(target, dialTimeoutMs);
      if (socket) return socket;
    }
    return { failure: 'unreachable', message: `${host}:${port} does not answer` } as const;
  };

  return {
    dial,
    async dialTls(host, port, alpn) {
      const raw = await dial(host, port);
      if (isFailure(raw)) return raw;
      const name = isIP(host) ? {} : { servername: host };
      const socket = tlsConnect({
        socket: raw,
        host,
        ...name,
        secureContext,
        ALPNProtocols: [...alpn],
        rejectUnauthorized: true,
      });
      return verified(socket, host, dialTimeoutMs);
    },
  };
}

function verified(socket: TLSSocket, host: string, timeoutMs: number): Promise<TLSSocket | DialFailure> {
  return new Promise((done) => {
    const fail = (message: string, untrusted: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      done({ failure: untrusted ? 'untrusted' : 'unreachable', message });
    };
    const timer = setTimeout(() => fail(`${host} does not finish its TLS handshake`, false), timeoutMs);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      const network = error.code === 'ECONNRESET' || error.code === 'EPIPE' || error.code === 'ETIMEDOUT';
      // The code names what is wrong; the message may quote the certificate, whose words are the peer's.
      fail(`TLS with ${host} failed: ${error.code ?? 'unknown error'}`, !network);
    });
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      done(socket.authorized ? socket : { failure: 'untrusted', message: `${host} is not authorised` });
    });
  });
}

async function findTargets(look: {
  host: string;
  port: number;
  pins: Map<string, { address: string; port: number | null }>;
  resolve: Resolve;
  addresses: AddressRules;
  dialTimeoutMs: number;
}): Promise<Target[] | DialFailure> {
  const { host, port, addresses } = look;
  const pin = look.pins.get(host);
  if (pin) return [{ address: pin.address, port: pin.port ?? port }];
  const found = isIP(host) ? [host] : await resolveWithin(look.resolve, host, look.dialTimeoutMs);
  if (found.length === 0) return { failure: 'unresolved', message: `${host} has no address` };
  const isOpen = failpoints.on && sabotaged('sabotage.dial-private');
  const dialable = found.filter((address) => isOpen || addresses.mayDial(address));
  if (dialable.length === 0) {
    return { failure: 'private', message: `${host} is an address that is not public` };
  }
  return dialable.slice(0, maxAddresses).map((address) => ({ address, port }));
}

async function resolveWithin(resolve: Resolve, name: string, timeoutMs: number): Promise<string[]> {
  const { promise, resolve: late } = Promise.withResolvers<string[]>();
  const timer = setTimeout(() => late([]), timeoutMs);
  const found = await Promise.race([resolve(name).catch(() => []), promise]);
  clearTimeout(timer);
  return found;
}

function dialOne(target: Target, timeoutMs: number): Promise<Socket | null> {
  return new Promise((done) => {
    const socket = tcpConnect({
      host: target.address,
      port: target.port,
      allowHalfOpen: true,
      noDelay: true,
    });
    const fail = () => {
      clearTimeout(timer);
      socket.destroy();
      done(null);
    };
    const timer = setTimeout(fail, timeoutMs);
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', fail);
      // Until its user listens, a reset must not end the process.
      socket.on('error', () => undefined);
      done(socket);
    });
  });
}

/** Throws for what is none: it is the operator's own setting. */
export function parsePin(text: string): [string, { address: string; port: number | null }] {
  const equals = text.indexOf('=');
  const name = canonicalName(text.slice(0, equals));
  const place = text.slice(equals + 1);
  const bracketed = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(place) ?? /^([0-9.]+)(?::(\d{1,5}))?$/.exec(place);
  const address = bracketed?.[1] ?? place;
  const port = bracketed?.[2] === undefined ? null : Number(bracketed[2]);
  const badPort = port !== null && (port < 1 || port > 65_535);
  if (equals < 1 || name === null || isIP(address) === 0 || badPort) {
    throw new TypeError(`${text} is no pin; write name=address or name=address:port`);
  }
  return [name, { address, port }];
}
