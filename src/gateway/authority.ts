/**
 * A certificate authority per session (S1, S2): it lives in this memory and dies with the session; what one sandbox
 * trusts, no other does. All leafs share one key, for making a key is the dear part.
 */
import 'reflect-metadata';
import { KeyObject, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

export type Authority = {
  /** With its trailing newline: bundles are made by concatenation. */
  pem: string;
  /** For the TLS server that stands in for `host`; minted once each. */
  contextFor(host: string): Promise<SecureContext>;
};

const day = 24 * 60 * 60 * 1000;
const lifeMs = 90 * day;
/** A sandbox's clock may be behind. */
const backdateMs = day;
const maxContexts = 512;
const signing = { name: 'ECDSA', hash: 'SHA-256' };
const curve = { name: 'ECDSA', namedCurve: 'P-256' };

type Keys = webcrypto.CryptoKeyPair;

export async function createAuthority(session: string): Promise<Authority> {
  const [keys, leafKeys] = await Promise.all([newKeys(), newKeys()]);
  const name = `CN=Sandbox gateway ${session.replaceAll(/[^A-Za-z0-9_-]/g, '')}`;
  const certificate = await mint({ subject: name, issuer: name, signer: keys, subjectKey: keys.publicKey }, [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    await SubjectKeyIdentifierExtension.create(keys.publicKey),
  ]);
  const leafKeyPem = KeyObject.from(leafKeys.privateKey).export({ type: 'pkcs8', format: 'pem' });
  const keyIdentifier = await AuthorityKeyIdentifierExtension.create(keys.publicKey);
  const contexts = new Map<string, Promise<SecureContext>>();
  const mintLeaf = async (host: string) => {
    const issued = { subject: 'CN=Sandbox gateway leaf', issuer: name };
    const leaf = await mint({ ...issued, signer: keys, subjectKey: leafKeys.publicKey }, [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension([{ type: isIP(host) ? 'ip' : 'dns', value: host }]),
      keyIdentifier,
    ]);
    return createSecureContext({ key: leafKeyPem, cert: pemOf(leaf), minVersion: 'TLSv1.2' });
  };
  return {
    pem: pemOf(certificate),
    contextFor(host) {
      const known = contexts.get(host);
      if (known !== undefined) return known;
      const oldest = contexts.keys().next();
      if (contexts.size >= maxContexts && !oldest.done) contexts.delete(oldest.value);
      const made = mintLeaf(host);
      contexts.set(host, made);
      return made;
    },
  };
}

function newKeys(): Promise<Keys> {
  return webcrypto.subtle.generateKey(curve, true, ['sign', 'verify']);
}

type Minting = { subject: string; issuer: string; signer: Keys; subjectKey: webcrypto.CryptoKey };

function mint(
  { subject, issuer, signer, subjectKey }: Minting,
  extensions: Extension[],
): Promise<X509Certificate> {
  const nowMs = Date.now();
  return X509CertificateGenerator.create({
    subject,
    issuer,
    notBefore: new Date(nowMs - backdateMs),
    notAfter: new Date(nowMs + lifeMs),
    signingAlgorithm: signing,
    publicKey: subjectKey,
    signingKey: signer.privateKey,
    extensions,
  });
}

/** The library's PEM ends without a newline, and two of them in a row are then none at all. */
function pemOf(certificate: X509Certificate): string {
  return `${certificate.toString('pem').trimEnd()}\n`;
}
