/**
 * The resolver a sandbox sees (S2): answers out of the session's table of fake addresses, forwards nothing to anybody.
 * A: the address bound to the name. AAAA: the name exists and has none. Everything else, and every name that may not be
 * reached: REFUSED. What is no query of one question is dropped without an answer (hostile input; fuzzed).
 */
import { canonicalName } from './pattern.ts';

const typeA = 1;
const typeAaaa = 28;
const classIn = 1;
const refused = 5;
const maxQueryBytes = 1232;
const ttlSeconds = 30;

export type DnsQuestion = { name: string; type: number; class: number };

type Query = DnsQuestion & { id: number; flags: number; questionEnd: number };

/** Null: not one plain query. */
export function readQuery(packet: Buffer): Query | null {
  if (packet.length < 17 || packet.length > maxQueryBytes) return null;
  const flags = packet.readUInt16BE(2);
  // A response is never answered, or two resolvers would talk to each other for ever.
  if ((flags & 0x8000) !== 0 || packet.readUInt16BE(4) !== 1) return null;
  const labels: string[] = [];
  let at = 12;
  for (;;) {
    const length = packet[at];
    if (length === undefined) return null;
    at += 1;
    if (length === 0) break;
    // 64 and up are compression pointers: a first question has nothing to point to.
    if (length > 63 || at + length > packet.length || at - 12 + length > 254) return null;
    labels.push(packet.toString('latin1', at, at + length));
    at += length;
  }
  if (at + 4 > packet.length) return null;
  // A dot inside a label would make one name of two.
  const name = labels.some((one) => one.includes('.')) ? '' : labels.join('.');
  const [type, questionClass] = [packet.readUInt16BE(at), packet.readUInt16BE(at + 2)];
  return { name, type, class: questionClass, id: packet.readUInt16BE(0), flags, questionEnd: at + 4 };
}

/**
 * The answer to a packet, or null to drop it. `resolve` gets a name in its one form and gives the address that is
 * bound to it, or null where the name may not be reached; it is asked for A and AAAA only.
 */
export function answerDns(packet: Buffer, resolve: (name: string) => string | null): Buffer | null {
  const query = readQuery(packet);
  if (!query) return null;
  const opcode = (query.flags >>> 11) & 15;
  const known = opcode === 0 && query.class === classIn && [typeA, typeAaaa].includes(query.type);
  const name = known && query.name !== '' ? canonicalName(query.name) : null;
  const address = name === null ? null : resolve(name);
  const answer = address !== null && query.type === typeA ? addressRecord(address) : null;
  const header = Buffer.alloc(12);
  header.writeUInt16BE(query.id, 0);
  // QR, the query's opcode and RD; recursion "available", or stub resolvers complain.
  header.writeUInt16BE(0x8080 | (query.flags & 0x7900) | (address === null ? refused : 0), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(answer ? 1 : 0, 6);
  // The question goes back byte for byte, its letters' case too: some resolvers check that.
  return Buffer.concat([header, packet.subarray(12, query.questionEnd), answer ?? Buffer.alloc(0)]);
}

function addressRecord(address: string): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(typeA, 2);
  record.writeUInt16BE(classIn, 4);
  record.writeUInt32BE(ttlSeconds, 6);
  record.writeUInt16BE(4, 10);
  for (const [at, part] of address.split('.').entries()) record[12 + at] = Number(part);
  return record;
}
