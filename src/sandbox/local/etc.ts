/**
 * The /etc of a sandbox: a short list of the host's own files that hold no secret, and synthesised ones. Everything
 * that is not listed here does not exist inside.
 */
import { lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { trustPaths } from './trust.ts';

const fromHost = [
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'alternatives',
  'ssl/certs',
  'ssl/openssl.cnf',
  'pki/tls/certs',
  'pki/ca-trust/extracted',
  'crypto-policies',
  'localtime',
  'mime.types',
  'protocols',
  'services',
];

const synthesised: Record<string, string> = {
  passwd: 'root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n',
  group: 'root:x:0:\nagent:x:1000:\n',
  hosts: '127.0.0.1 localhost sandbox\n::1 localhost\n',
  hostname: 'sandbox\n',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n',
  // The workspace belongs to the sandbox's only user, whatever uid it has on the host.
  gitconfig: [
    '[safe]\n\tdirectory = *',
    '[user]\n\tname = Scriptorium agent\n\temail = agent@scriptorium.invalid',
    '[init]\n\tdefaultBranch = main',
    '[advice]\n\tdetachedHead = false\n',
  ].join('\n'),
};

/** Only with a way out: without it a name is refused at once, and not after a time. */
const forNetwork: Record<string, string> = { 'resolv.conf': 'nameserver 127.0.0.1\n' };

/**
 * Which files of the host's /etc there are. With `ownTrust` the bundle of authorities is ours: the host's folder of them
 * stays only where that file can be mounted over.
 */
export function hostEtc(ownTrust: boolean): string[] {
  const hidesBundle = lstatSync(trustPaths.bundle, { throwIfNoEntry: false })?.isFile() !== true;
  return fromHost.filter(
    (name) =>
      !(ownTrust && hidesBundle && name === 'ssl/certs') &&
      statSync(path.join('/etc', name), { throwIfNoEntry: false }) !== undefined,
  );
}

export function synthesisedEtc(hasNetwork: boolean): string[] {
  return [...Object.keys(synthesised), ...(hasNetwork ? Object.keys(forNetwork) : [])];
}

/** Writes the synthesised files into `folder`; every sandbox binds them read-only from there. */
export function writeEtc(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  for (const [name, content] of Object.entries({ ...synthesised, ...forNetwork }))
    writeFileSync(path.join(folder, name), content, { mode: 0o644 });
}
