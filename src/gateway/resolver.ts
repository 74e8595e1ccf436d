/**
 * Addresses of outside names, for all sessions (S2). Not by the system's own look-up: that holds one of a few threads for as
 * long as a name's servers please, so names of one sandbox that nobody answers for would keep all others waiting.
 */
import { Resolver } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { canonicalName } from './pattern.ts';

export type ResolverSettings = {
  /** `address:port`; by default those of the system. */
  servers?: readonly string[];
  hostsFile?: string;
  /** Of one question to one server; asked twice. */
  timeoutMs?: number;
};

/** The system's settings are read anew so often: machines move between networks. */
const settingsMs = 15_000;

/** All addresses of a name in its one form, IPv4 first; none where there are none. What the hosts file says goes before. */
export function openResolver(settings: ResolverSettings = {}): (name: string) => Promise<string[]> {
  const { servers, hostsFile = '/etc/hosts', timeoutMs: timeout = 3_000 } = settings;
  let resolver: Resolver | null = null;
  let madeAtMs = 0;
  const current = (): Resolver => {
    if (resolver !== null && performance.now() - madeAtMs < settingsMs) return resolver;
    resolver = new Resolver({ timeout, tries: 2 });
    if (servers) resolver.setServers(servers);
    madeAtMs = performance.now();
    return resolver;
  };
  return async (name) => {
    const written = inHostsFile(hostsFile, name);
    if (written.length > 0) return written;
    const asked = current();
    const found = await Promise.allSettled([asked.resolve4(name), asked.resolve6(name)]);
    return found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  };
}

function inHostsFile(file: string, name: string): string[] {
  let text = '';
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    return isIP(address) !== 0 && names.some((one) => canonicalName(one) === name) ? [address] : [];
  });
}
