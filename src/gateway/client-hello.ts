/**
 * Reads the first message of TLS far enough to know for whom it is (S2). The input is a hostile sandbox's: every length
 * is checked, the message may come in any number of segments and records, and what is not plainly a ClientHello is bad.
 */

export type ClientHello = {
  /** SNI, lower case, as sent; null where none was. */
  serverName: string | null;
  /** Encrypted ClientHello (or its draft): the name in clear may not be the name meant. */
  encrypted: boolean;
  alpn: string[];
};

export type HelloReading =
  | { state: 'more' }
  | { state: 'bad'; reason: string }
  | { state: 'hello'; hello: ClientHello };

/** With post-quantum key shares a hello is about 2 KB. */
export const maxHelloBytes = 32 * 1024;

const handshakeRecord = 22;
const clientHelloMessage = 1;
const maxRecordBytes = 16_384;
/** Each record is looked at again with every byte that arrives; real clients use one or two. */
const maxRecords = 64;
const serverNameExtension = 0;
const alpnExtension = 16;
const encryptedExtensions = [0xfe0d, 0xffce, 0xfe0a, 0xfe09, 0xfe08];

const bad = (reason: string): HelloReading => ({ state: 'bad', reason });

/** Could these first bytes begin a TLS connection? */
export function looksLikeTls(bytes: Buffer): boolean {
  return bytes[0] === handshakeRecord && (bytes.length < 2 || bytes[1] === 3);
}

export function readClientHello(bytes: Buffer): HelloReading {
  const message: Buffer[] = [];
  let gathered = 0;
  let at = 0;
  for (;;) {
    if (bytes.length > at && bytes[at] !== handshakeRecord) return bad('not a TLS handshake');
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) return bad('not a TLS version');
    if (bytes.length < at + 5) break;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > maxRecordBytes) return bad('a TLS record of an impossible length');
    if (message.length === maxRecords) return bad('a ClientHello in too many records');
    const part = bytes.subarray(at + 5, at + 5 + length);
    message.push(part);
    gathered += part.length;
    if (part.length < length) break;
    const whole = readMessage(Buffer.concat(message, gathered));
    if (whole.state !== 'more') return whole;
    at += 5 + length;
  }
  // What cannot become a hello any more is told at once, not when its time is up.
  const soFar = readMessage(Buffer.concat(message, gathered));
  if (soFar.state === 'bad') return soFar;
  return bytes.length > maxHelloBytes ? bad('a ClientHello that is too long') : { state: 'more' };
}

function readMessage(message: Buffer): HelloReading {
  if (message.length > 0 && message[0] !== clientHelloMessage) return bad('not a ClientHello');
  if (message.length < 4) return { state: 'more' };
  const length = message.readUIntBE(1, 3);
  if (length > maxHelloBytes) return bad('a ClientHello that is too long');
  if (message.length < 4 + length) return { state: 'more' };
  const hello = readBody(new Fields(message.subarray(4, 4 + length)));
  return hello ? { state: 'hello', hello } : bad('a malformed ClientHello');
}

/** Takes length-prefixed fields off the front; null once anything did not fit. */
class Fields {
  #rest: Buffer | null;
  constructor(bytes: Buffer) {
    this.#rest = bytes;
  }
  take(length: number): Buffer | null {
    if (this.#rest === null || this.#rest.length < length) {
      this.#rest = null;
      return null;
    }
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }
  number(bytes: 1 | 2): number | null {
    return this.take(bytes)?.readUIntBE(0, bytes) ?? null;
  }
  vector(lengthBytes: 1 | 2): Fields | null {
    const length = this.number(lengthBytes);
    const taken = length === null ? null : this.take(length);
    return taken && new Fields(taken);
  }
  get empty(): boolean {
    return this.#rest?.length === 0;
  }
  bytes(): Buffer {
    return this.#rest ?? Buffer.alloc(0);
  }
}

function readBody(body: Fields): ClientHello | null {
  const version = body.number(2);
  if (version === null || version < 0x0300 || !body.take(32)) return null;
  if (!body.vector(1) || !body.vector(2) || !body.vector(1)) return null;
  const hello: ClientHello = { serverName: null, encrypted: false, alpn: [] };
  if (body.empty) return hello;
  const extensions = body.vector(2);
  if (!extensions || !body.empty) return null;
  const seen = new Set<number>();
  while (!extensions.empty) {
    const type = extensions.number(2);
    const content = extensions.vector(2);
    // Two of a kind: one reader takes the first, the next the last.
    if (type === null || !content || seen.has(type)) return null;
    seen.add(type);
    if (type === serverNameExtension) {
      hello.serverName = readServerName(content);
      if (hello.serverName === null) return null;
    }
    if (type === alpnExtension) {
      const alpn = readAlpn(content);
      if (!alpn) return null;
      hello.alpn = alpn;
    }
    if (encryptedExtensions.includes(type)) hello.encrypted = true;
  }
  return hello;
}

function readServerName(content: Fields): string | null {
  const list = content.vector(2);
  if (!list || !content.empty) return null;
  const kind = list.number(1);
  const name = list.vector(2)?.bytes();
  if (kind !== 0 || !name || name.length === 0 || name.length > 255 || !list.empty) return null;
  const text = name.toString('latin1').toLowerCase();
  return /^[a-z0-9_.-]+$/.test(text) ? text : null;
}

function readAlpn(content: Fields): string[] | null {
  const list = content.vector(2);
  if (!list || !content.empty) return null;
  const protocols: string[] = [];
  while (!list.empty) {
    const name = list.vector(1)?.bytes();
    if (!name || name.length === 0) return null;
    protocols.push(name.toString('latin1'));
  }
  return protocols;
}
