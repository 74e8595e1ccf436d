/**
 * What a database URL says, in the driver's words.
 *
 * TLS fails closed (S4). A server that is not on this machine is spoken to over TLS with its certificate and name
 * verified, unless the URL says otherwise in so many words:
 * - `sslmode=disable`: no TLS. The default for a Unix socket and a loopback address.
 * - `sslmode=require`, `verify-full`: verified, chain and host name. The default for everything else.
 * - `sslmode=verify-ca`: the chain only.
 * - `sslmode=no-verify`: encrypted to whoever answers.
 * - `allow` and `prefer` are refused: they fall back to clear text without a word.
 * `sslrootcert`, `sslcert` and `sslkey` name files; without the first, the system's authorities are asked.
 */
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';

export type Address = {
  host: string;
  port: number;
  user: string | undefined;
  password: string | undefined;
  database: string | undefined;
  ssl: ConnectionOptions | false;
};

export class DatabaseUrlRefused extends Error {
  override name = 'DatabaseUrlRefused';
}

/** The message of a refusal never holds the URL: it has a password in it. */
export function addressOf(databaseUrl: string): Address {
  const url = parse(databaseUrl);
  const host = url.searchParams.get('host') ?? decodeURIComponent(url.hostname.replace(/^\[|\]$/g, ''));
  const address = {
    host: host === '' ? 'localhost' : host,
    port: Number(url.searchParams.get('port') ?? (url.port || 5432)),
    user: textOf(url.username),
    password: textOf(url.password),
    database: textOf(url.pathname.slice(1)),
  };
  return { ...address, ssl: tlsOf(url.searchParams, address.host) };
}

function parse(databaseUrl: string): URL {
  let url: URL;
  try {
    // A socket's directory as the host has no form that URL accepts: postgres://user@/db?host=/run/postgresql
    url = new URL(databaseUrl.replace(/^(\w+:\/\/[^/?]*@)\//, '$1localhost/'));
  } catch {
    throw new DatabaseUrlRefused(
      'the database URL is no URL; it looks like postgres://user:password@host:5432/name',
    );
  }
  if (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:') {
    throw new DatabaseUrlRefused(
      `the database URL begins with ${url.protocol}// and has to begin with postgres://`,
    );
  }
  return url;
}

function textOf(part: string): string | undefined {
  return part === '' ? undefined : decodeURIComponent(part);
}

function tlsOf(parameters: URLSearchParams, host: string): ConnectionOptions | false {
  const isLocal = host.startsWith('/') || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
  const mode = parameters.get('sslmode') ?? (isLocal ? 'disable' : 'verify-full');
  const file = (name: string): string | undefined => {
    const path = parameters.get(name);
    return path === null ? undefined : readFileSync(path, 'utf8');
  };
  const files = { ca: file('sslrootcert'), cert: file('sslcert'), key: file('sslkey') };
  const named = Object.fromEntries(Object.entries(files).filter(([, text]) => text !== undefined));
  switch (mode) {
    case 'disable':
      return false;
    case 'require':
    case 'verify-full':
      return { ...named, rejectUnauthorized: true, servername: host };
    case 'verify-ca':
      return { ...named, rejectUnauthorized: true, checkServerIdentity: () => undefined };
    case 'no-verify':
      return { ...named, rejectUnauthorized: false };
    default:
      throw new DatabaseUrlRefused(
        `sslmode=${mode} may fall back to clear text; use disable, require, verify-ca, verify-full or no-verify`,
      );
  }
}
