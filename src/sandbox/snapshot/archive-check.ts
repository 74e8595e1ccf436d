/**
 * Looks through an imported archive before anything of it is unpacked: what a stranger packed must be a checkpoint and
 * nothing else. Every header is read; contents are skipped.
 *
 * Refused (`bad_archive`, with the member's name): names outside of the three folders, `..`, absolute names, members below
 * a link, hard links to elsewhere, symbolic links that lead to where no sandbox has anything, device nodes, setuid and
 * setgid programs, header forms we do not write, a manifest that is not ours, an end before the end.
 */
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { createZstdDecompress } from 'node:zlib';
import { sandboxPaths } from '../executor.ts';
import { ARCHIVE_FORMAT } from './archive.ts';
import { DiskRefused, diskFolders } from './disk.ts';

const BLOCK = 512;
const MAX_HEADER_BYTES = 1 << 20;
const MAX_MANIFEST_BYTES = 64 << 10;
const MAX_MEMBERS = 5_000_000;
/** Unpacked; a few kilobytes of zstd can say that they are many terabytes. */
const MAX_BYTES = 256 * 2 ** 30;

const inSandbox: Record<string, string> = {
  workspace: sandboxPaths.workspace,
  outputs: sandboxPaths.outputs,
  home: sandboxPaths.home,
};
/** Where a link may lead: the disk, and what every sandbox has. */
const linkable = [
  ...Object.values(inSandbox),
  ...[sandboxPaths.uploads, '/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/opt', '/tmp', '/dev/null'],
];

type Member = { name: string; type: string; mode: number; sizeBytes: number; link: string };

/** How many files it holds. Throws `DiskRefused`. */
export async function checkArchive(file: string): Promise<{ files: number }> {
  const source = createReadStream(file);
  const plain = createZstdDecompress();
  source.once('error', (error) => plain.destroy(error));
  try {
    return await checkMembers(new Blocks(source.pipe(plain)));
  } catch (error) {
    if (error instanceof DiskRefused) throw error;
    throw bad(`it cannot be read: ${(error as Error).message}`);
  } finally {
    source.destroy();
    plain.destroy();
  }
}

const bad = (why: string): DiskRefused => new DiskRefused('bad_archive', `not a checkpoint: ${why}`);

async function checkMembers(blocks: Blocks): Promise<{ files: number }> {
  const links = new Set<string>();
  let files = 0;
  let hasManifest = false;
  for (let member = await nextMember(blocks); member !== null; member = await nextMember(blocks)) {
    if (!hasManifest) {
      await checkManifest(blocks, member);
      hasManifest = true;
      continue;
    }
    checkMember(member, links);
    if (++files > MAX_MEMBERS) throw bad(`more than ${MAX_MEMBERS} files`);
    await blocks.skip(padded(member.sizeBytes));
  }
  if (!hasManifest) throw bad('it is empty');
  return { files: Math.max(0, files - diskFolders.length) };
}

async function checkManifest(blocks: Blocks, member: Member): Promise<void> {
  if (member.name !== 'manifest.json' || member.type !== '0' || member.sizeBytes > MAX_MANIFEST_BYTES)
    throw bad('its first member is not manifest.json');
  const text = await blocks.take(padded(member.sizeBytes));
  const { format } = JSON.parse(text.subarray(0, member.sizeBytes).toString()) as { format?: unknown };
  if (format !== ARCHIVE_FORMAT) throw bad(`its format is ${String(format)}, not ${ARCHIVE_FORMAT}`);
}

function checkMember(member: Member, links: Set<string>): void {
  const { name, type, mode, link } = member;
  const shown = JSON.stringify(name.slice(0, 200));
  const steps = stepsOf(name, shown);
  for (let depth = 1; depth < steps.length; depth++)
    if (links.has(steps.slice(0, depth).join('/'))) throw bad(`${shown} is below a link`);
  if (!'01256'.includes(type) || type === '')
    throw bad(`${shown} is a device or a member of another kind (${type})`);
  if (steps.length === 1 && type !== '5') throw bad(`${shown} is not a folder`);
  if ((mode & 0o4000) !== 0 || ((mode & 0o2000) !== 0 && type !== '5'))
    throw bad(`${shown} is setuid or setgid`);
  if (type === '1') stepsOf(link, `the hard link ${shown}`);
  if (type !== '2') return;
  links.add(steps.join('/'));
  const folder = [inSandbox[steps[0] as string], ...steps.slice(1, -1)].join('/');
  const target = path.posix.resolve(folder, link);
  if (!linkable.some((place) => target === place || target.startsWith(`${place}/`)))
    throw bad(`the link ${shown} leads out, to ${JSON.stringify(link.slice(0, 200))}`);
}

function stepsOf(name: string, shown: string): string[] {
  const steps = name.replace(/\/$/, '').split('/');
  if (steps.some((step) => step === '' || step === '.' || step === '..'))
    throw bad(`${shown} has an absolute name, or "." or ".." in it`);
  if (inSandbox[steps[0] as string] === undefined || !Object.hasOwn(inSandbox, steps[0] as string))
    throw bad(`${shown} is in none of the folders ${diskFolders.join(', ')}`);
  return steps;
}

const padded = (sizeBytes: number): number => Math.ceil(sizeBytes / BLOCK) * BLOCK;

/** The next member with what headers before it say of it; null at the end. Names are bytes, told apart as latin-1. */
async function nextMember(blocks: Blocks): Promise<Member | null> {
  let extended: Record<string, string> = {};
  for (;;) {
    const header = await blocks.take(BLOCK);
    if (header.every((byte) => byte === 0)) return null;
    checkSum(header);
    const type = header[156] === 0 ? '0' : String.fromCharCode(header[156] as number);
    const sizeBytes = numberIn(header, 124, 12);
    if (type !== 'x' && type !== 'L' && type !== 'K') return memberOf(header, type, sizeBytes, extended);
    if (sizeBytes > MAX_HEADER_BYTES) throw bad('a header is too long');
    const body = (await blocks.take(padded(sizeBytes))).subarray(0, sizeBytes);
    if (type === 'x') extended = { ...extended, ...paxRecords(body) };
    else extended[type === 'L' ? 'path' : 'linkpath'] = untilNul(body);
  }
}

function memberOf(header: Buffer, type: string, sizeBytes: number, extended: Record<string, string>): Member {
  const prefix =
    header.subarray(257, 263).toString('latin1') === 'ustar\0' ? untilNul(header.subarray(345, 500)) : '';
  const short = untilNul(header.subarray(0, 100));
  const plainName = prefix === '' ? short : `${prefix}/${short}`;
  const size = extended.size === undefined ? sizeBytes : Number(extended.size);
  if (!Number.isSafeInteger(size) || size < 0) throw bad('a size is not a number');
  return {
    name: extended['GNU.sparse.name'] ?? extended.path ?? plainName,
    type,
    mode: numberIn(header, 100, 8),
    // Only files have content, whatever a header says of the others: as tar reads it.
    sizeBytes: type === '0' ? size : 0,
    link: extended.linkpath ?? untilNul(header.subarray(157, 257)),
  };
}

function paxRecords(body: Buffer): Record<string, string> {
  const found: Record<string, string> = Object.create(null) as Record<string, string>;
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at);
    const length = Number(body.subarray(at, space).toString('latin1'));
    if (space < 0 || !Number.isSafeInteger(length) || length < 5 || at + length > body.length)
      throw bad('a header has a damaged record');
    const record = body.subarray(space + 1, at + length - 1).toString('latin1');
    const equals = record.indexOf('=');
    if (equals < 1) throw bad('a header has a damaged record');
    found[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  for (const name of ['path', 'linkpath', 'GNU.sparse.name'])
    if (found[name]?.includes('\0')) throw bad('a name holds NUL');
  return found;
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.subarray(0, end < 0 ? bytes.length : end).toString('latin1');
}

/** Octal, or the base-256 of sizes beyond 8 GiB. */
function numberIn(header: Buffer, at: number, length: number): number {
  if (((header[at] as number) & 0x80) !== 0) return Number(header.readBigUInt64BE(at + length - 8));
  const text = untilNul(header.subarray(at, at + length)).trim();
  if (!/^[0-7]*$/.test(text)) throw bad('a header holds no number where one must be');
  return text === '' ? 0 : Number.parseInt(text, 8);
}

function checkSum(header: Buffer): void {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += header[i] as number;
  if (sum !== numberIn(header, 148, 8)) throw bad('a header is damaged');
}

/** Bytes of a stream, in the sizes that are asked for. */
class Blocks {
  readonly #source: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  #totalBytes = 0;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async #more(): Promise<Buffer> {
    const { value, done } = await this.#source.next();
    if (done === true) throw bad('it ends before its end');
    this.#totalBytes += value.length;
    if (this.#totalBytes > MAX_BYTES) throw bad(`it holds more than ${MAX_BYTES} bytes`);
    return value;
  }

  async take(sizeBytes: number): Promise<Buffer> {
    const parts = [this.#rest];
    let got = this.#rest.length;
    while (got < sizeBytes) {
      const part = await this.#more();
      parts.push(part);
      got += part.length;
    }
    const whole = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    this.#rest = whole.subarray(sizeBytes);
    return whole.subarray(0, sizeBytes);
  }

  async skip(sizeBytes: number): Promise<void> {
    let left = sizeBytes;
    while (left > this.#rest.length) {
      left -= this.#rest.length;
      this.#rest = await this.#more();
    }
    this.#rest = this.#rest.subarray(left);
  }
}
