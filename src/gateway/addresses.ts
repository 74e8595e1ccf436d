/**
 * Which real addresses the gateway may dial for a sandbox (S2, S4): those of the public internet, asked after the name
 * was resolved, so that no name can stand for a machine of the operator's. What cannot be judged is refused.
 */
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** What an operator allows beyond that: `10.1.0.0/16`. */
export type AddressRules = { mayDial(address: string): boolean };

const notPublicV4 = [
  '0.0.0.0/8', // this network
  '10.0.0.0/8',
  '100.64.0.0/10', // carrier-grade NAT; clouds keep metadata in it too
  '127.0.0.0/8',
  '168.63.129.16/32', // a cloud's host agent, in the midst of public addresses
  '169.254.0.0/16', // link-local, metadata
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15', // what our own resolver hands out
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];

/** All of IPv6 that is public lies in 2000::/3; these parts of it carry or mean something else. */
const notPublicV6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];
const publicV6 = '2000::/3';

const interfaceCacheMs = 5_000;

/** Throws for a malformed range: it is the operator's own setting. */
export function addressRules(allowedRanges: readonly string[] = []): AddressRules {
  const allowed = blockList(allowedRanges);
  const refused = blockList([...notPublicV4, ...notPublicV6]);
  const global = blockList([publicV6]);
  let own = new BlockList();
  let ownReadAtMs = Number.NEGATIVE_INFINITY;
  const isOwn = (address: string) => {
    if (performance.now() - ownReadAtMs > interfaceCacheMs) {
      own = ownAddresses();
      ownReadAtMs = performance.now();
    }
    return own.check(address, familyOf(address));
  };
  return {
    mayDial(address) {
      if (isIP(address) === 0) return false;
      // A zone (`fe80::1%eth0`) or an IPv4 address in IPv6 clothes: the kernel dials something else than what is checked.
      if (isIPv6(address) && (address.includes('%') || address.includes('.') || isMapped(address)))
        return false;
      const family = familyOf(address);
      if (allowed.check(address, family)) return true;
      if (refused.check(address, family) || isOwn(address)) return false;
      return family === 'ipv4' || global.check(address, family);
    },
  };
}

/** A range as an operator writes it, or null. */
export function parseRange(text: string): { address: string; prefix: number } | null {
  const [address = '', prefixText = '', more] = text.split('/');
  const prefix = Number(prefixText);
  const family = isIP(address);
  if (family === 0 || more !== undefined || !/^\d{1,3}$/.test(prefixText)) return null;
  return prefix <= (family === 4 ? 32 : 128) ? { address, prefix } : null;
}

function blockList(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of ranges) {
    const range = parseRange(text);
    if (!range) throw new TypeError(`${text} is no address range; write one like 10.1.0.0/16`);
    list.addSubnet(range.address, range.prefix, familyOf(range.address));
  }
  return list;
}

function ownAddresses(): BlockList {
  const list = new BlockList();
  for (const { address } of Object.values(networkInterfaces()).flatMap((one) => one ?? [])) {
    list.addAddress(address.split('%')[0] ?? address, familyOf(address));
  }
  return list;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6';
}

const mapped = new BlockList();
mapped.addSubnet('::ffff:0:0', 96, 'ipv6');

function isMapped(address: string): boolean {
  return mapped.check(address, 'ipv6');
}
