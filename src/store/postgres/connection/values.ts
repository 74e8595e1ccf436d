/**
 * How values cross to Postgres and back, all of it in one place. Arrays go over in binary: no escaping, no hexadecimal.
 * Results come back as text, which is all that the driver reads.
 *
 * int8 is a number here, because every one we store (sequences, fences, milliseconds, micros) is a safe integer; one
 * that is not is an error, never a rounded value. A type nobody has thought about is an error too.
 */

const oids = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int4: 23,
  text: 25,
  varchar: 1043,
  void: 2278,
} as const;

export function integerOf(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number)) throw new Error(`the database holds ${text}, which is no safe integer`);
  return number;
}

function bytesOf(text: string): Buffer {
  if (!text.startsWith('\\x')) throw new Error('the database sends bytes in another form than hex');
  return Buffer.from(text.slice(2), 'hex');
}

const parsers = new Map<number, (text: string) => unknown>([
  [oids.bool, (text) => text === 't'],
  [oids.bytea, bytesOf],
  [oids.name, (text) => text],
  [oids.int8, integerOf],
  [oids.int4, integerOf],
  [oids.text, (text) => text],
  [oids.varchar, (text) => text],
  [oids.void, () => null],
]);

/** What the driver asks for each column of a result. */
export const types = {
  getTypeParser(oid: number): (text: string) => unknown {
    const parse = parsers.get(oid);
    if (parse === undefined) throw new Error(`a result has a column of type ${oid}, which has no parser`);
    return parse;
  },
};

/** One-dimensional arrays in Postgres' binary form: header, then each element with its length (-1: null). */
const headerBytes = 20;

function arrayOf<T>(
  elementOid: number,
  values: readonly (T | null)[],
  sizeOf: (value: T) => number,
  write: (into: Buffer, at: number, value: T, sizeBytes: number) => void,
): Buffer {
  const sizes = values.map((value) => (value === null ? -1 : sizeOf(value)));
  const total = sizes.reduce((sum, sizeBytes) => sum + 4 + Math.max(0, sizeBytes), headerBytes);
  const bytes = Buffer.allocUnsafe(total);
  bytes.writeInt32BE(values.length === 0 ? 0 : 1, 0);
  bytes.writeInt32BE(1, 4);
  bytes.writeInt32BE(elementOid, 8);
  if (values.length === 0) return bytes.subarray(0, 12);
  bytes.writeInt32BE(values.length, 12);
  bytes.writeInt32BE(1, 16);
  let at = headerBytes;
  for (const [index, value] of values.entries()) {
    const sizeBytes = sizes[index] ?? -1;
    at = bytes.writeInt32BE(sizeBytes, at);
    if (value === null) continue;
    write(bytes, at, value, sizeBytes);
    at += sizeBytes;
  }
  return bytes;
}

export function texts(values: readonly (string | null)[]): Buffer {
  return arrayOf(
    oids.text,
    values,
    (value) => Buffer.byteLength(value),
    (into, at, value) => into.write(value, at),
  );
}

/** Milliseconds may come with a fraction; a column has none. */
export function integers(values: readonly (number | null)[]): Buffer {
  return arrayOf(
    oids.int8,
    values,
    () => 8,
    (into, at, value) => into.writeBigInt64BE(BigInt(Math.floor(value)), at),
  );
}

/** A column of a composite type, and its value in each record. */
export type Member = 'text' | 'int8' | 'bytea';
export type MemberValue = string | number | Uint8Array | null;

/** Grows to the largest array that was ever sent; what is sent is a copy. */
let scratch = Buffer.allocUnsafe(16_384);

function scratchOf(sizeBytes: number, usedBytes: number): Buffer {
  if (scratch.length >= sizeBytes) return scratch;
  const larger = Buffer.allocUnsafe(2 * sizeBytes);
  scratch.copy(larger, 0, 0, usedBytes);
  scratch = larger;
  return larger;
}

/** An array of a composite type of the database, whose oid is `typeOid`: every record has all members in their order. */
export function records(
  typeOid: number,
  members: readonly Member[],
  rows: readonly (readonly MemberValue[])[],
): Buffer {
  let into = scratchOf(headerBytes, 0);
  into.writeInt32BE(rows.length === 0 ? 0 : 1, 0);
  into.writeInt32BE(0, 4);
  into.writeInt32BE(typeOid, 8);
  if (rows.length === 0) return Buffer.from(into.subarray(0, 12));
  into.writeInt32BE(rows.length, 12);
  into.writeInt32BE(1, 16);
  let at = headerBytes;
  for (const row of rows) {
    into = scratchOf(at + 8, at);
    const start = at;
    at = into.writeInt32BE(members.length, at + 4);
    for (const [index, member] of members.entries()) {
      const value = row[index] ?? null;
      // A UTF-16 unit is three bytes at most.
      const most =
        typeof value === 'string' ? 3 * value.length : value instanceof Uint8Array ? value.length : 8;
      into = scratchOf(at + 8 + most, at);
      at = into.writeInt32BE(oids[member], at);
      at = writeMember(into, at, value);
    }
    into.writeInt32BE(at - start - 4, start);
  }
  return Buffer.from(into.subarray(0, at));
}

/** Length and bytes (-1: null); where the next one begins. */
function writeMember(into: Buffer, at: number, value: MemberValue): number {
  if (value === null) return into.writeInt32BE(-1, at);
  const sizeBytes = writeBytes(into, at + 4, value);
  into.writeInt32BE(sizeBytes, at);
  return at + 4 + sizeBytes;
}

function writeBytes(into: Buffer, at: number, value: string | number | Uint8Array): number {
  if (typeof value === 'string') return into.write(value, at);
  if (typeof value !== 'number') {
    into.set(value, at);
    return value.length;
  }
  const whole = Math.floor(value);
  if (!Number.isSafeInteger(whole)) throw new Error(`${value} is no safe integer`);
  const high = Math.floor(whole / 2 ** 32);
  into.writeInt32BE(high, at);
  into.writeUInt32BE(whole - high * 2 ** 32, at + 4);
  return 8;
}
