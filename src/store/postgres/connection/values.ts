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

export function bytes(values: readonly (Uint8Array | null)[]): Buffer {
  return arrayOf(
    oids.bytea,
    values,
    (value) => value.length,
    (into, at, value) => into.set(value, at),
  );
}
