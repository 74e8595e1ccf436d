/**
 * Which authorities programs in a captured sandbox trust: the host's own and the session's, which signs what the
 * gateway terminates. Written where the session reads through a read-only mount and cannot write.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { rootCertificates } from 'node:tls';

export type Trust = {
  /** The host's authorities and the session's. */
  bundle: string;
  /** The session's alone. */
  authority: string;
};

/** Where they are inside. The first is where Debian's and Alpine's programs look without being told. */
export const trustPaths = {
  bundle: '/etc/ssl/certs/ca-certificates.crt',
  authority: '/opt/scriptorium/authority.pem',
} as const;

const hostBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

/** For programs that bring their own list. Node and Deno add to theirs; parsing the whole bundle costs them start-up time. */
export const trustEnvironment: Record<string, string> = {
  NODE_EXTRA_CA_CERTS: trustPaths.authority,
  DENO_CERT: trustPaths.authority,
  SSL_CERT_FILE: trustPaths.bundle,
  REQUESTS_CA_BUNDLE: trustPaths.bundle,
  PIP_CERT: trustPaths.bundle,
  GIT_SSL_CAINFO: trustPaths.bundle,
  CURL_CA_BUNDLE: trustPaths.bundle,
  AWS_CA_BUNDLE: trustPaths.bundle,
};

/** In place: a running sandbox has these very files mounted. */
export function writeTrust(folder: string, authorityPem: string): Trust {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const trust = { bundle: path.join(folder, 'bundle.pem'), authority: path.join(folder, 'authority.pem') };
  // Some programs stop reading where a certificate does not end with a line.
  const authority = `${authorityPem.trim()}\n`;
  writeFileSync(trust.authority, authority);
  writeFileSync(trust.bundle, `${hostRoots()}${authority}`);
  for (const file of [trust.authority, trust.bundle]) chmodSync(file, 0o644);
  return trust;
}

function hostRoots(): string {
  for (const file of hostBundles)
    try {
      return `${readFileSync(file, 'utf8').trim()}\n`;
    } catch {
      // Another distribution's place.
    }
  return `${rootCertificates.join('\n')}\n`;
}
