/**
 * File operations in the words of the port, done by the guest (S3). Paths are the sandbox's own and stay strings here.
 */
import { constants } from 'node:os';
import type { Edit, EditsDone, FileRead, FileStat, Refusal } from '../executor.ts';
import {
  FrameError,
  MAX_DATA_BYTES,
  Payload,
  replyStatus,
  text,
  texts,
  toGuest,
  u8,
  u32,
  u64,
} from './frames.ts';
import type { GuestLink } from './link.ts';

export type FileDigest = { exists: boolean; sizeBytes: number; sha256: string };
type EditedFile = EditsDone['files'][number];

const fileTypes = ['file', 'directory', 'symlink', 'other'] as const;
const statBytes = 21;

const refusalWords: Record<number, [Refusal['refused'], string]> = {
  [constants.errno.ENOENT]: ['not_found', 'no such file or directory'],
  [constants.errno.ELOOP]: ['not_found', 'too many symbolic links'],
  [constants.errno.EISDIR]: ['not_a_file', 'is a directory'],
  [constants.errno.ENOTDIR]: ['not_a_directory', 'is not a directory'],
  [constants.errno.EACCES]: ['permission_denied', 'permission denied'],
  [constants.errno.EPERM]: ['permission_denied', 'operation not permitted'],
  [constants.errno.EROFS]: ['permission_denied', 'read-only file system'],
  [constants.errno.EFBIG]: ['too_large', 'larger than the limit for a file'],
  [replyStatus.notAFile]: ['not_a_file', 'is not a regular file'],
  [replyStatus.changed]: ['changed', 'is not what was expected'],
  [replyStatus.tooLarge]: ['too_large', 'is too large'],
};

/** An errno of the guest as the port's ending. */
export function refusalOf(status: number, path: string): Refusal {
  const known = refusalWords[status];
  if (known !== undefined) return { refused: known[0], message: `${path}: ${known[1]}` };
  const name = Object.entries(constants.errno).find(([, number]) => number === status)?.[0];
  return { refused: 'io_error', message: `${path}: ${name ?? `status ${status}`}` };
}

export async function readFile(
  link: GuestLink,
  request: { path: string; offset?: number; maxBytes: number },
): Promise<FileRead | Refusal> {
  const offset = request.offset ?? 0;
  const chunks: Buffer[] = [];
  let got = 0;
  for (;;) {
    const want = Math.min(MAX_DATA_BYTES, request.maxBytes - got);
    const reply = await link.request(toGuest.read, [u64(offset + got), u32(want), text(request.path)]);
    if (reply.status !== 0) return refusalOf(reply.status, request.path);
    const sizeBytes = reply.payload.u64();
    const atEnd = reply.payload.u8() === 1;
    const data = reply.payload.rest();
    if (data.length > want) throw new FrameError('more was read than asked');
    chunks.push(data);
    got += data.length;
    const isWhole = offset === 0 && (atEnd || (sizeBytes > 0 && got >= sizeBytes));
    // Files of /proc say size 0 and still hold something, so the size alone never ends the reading.
    if (atEnd || got >= request.maxBytes || (sizeBytes > 0 && offset + got >= sizeBytes))
      return { data: chunks.length === 1 ? data : Buffer.concat(chunks), sizeBytes, isWhole };
  }
}

export async function stat(link: GuestLink, path: string): Promise<FileStat | Refusal> {
  const reply = await link.request(toGuest.stat, [text(path)]);
  if (reply.status !== 0) return refusalOf(reply.status, path);
  return { path, ...takeStat(reply.payload) };
}

function takeStat(payload: Payload): Omit<FileStat, 'path'> {
  const type = fileTypes[payload.u8()];
  if (type === undefined) throw new FrameError('unknown file type');
  return { type, mode: payload.u32(), sizeBytes: payload.u64(), mtimeMs: payload.u64() };
}

export async function walk(
  link: GuestLink,
  request: { path: string; skipDirectories: string[]; maxEntries: number; maxDepth: number },
): Promise<{ entries: FileStat[]; isWhole: boolean } | Refusal> {
  const reply = await link.request(toGuest.walk, [
    u32(request.maxEntries),
    u32(request.maxDepth),
    text(request.path),
    texts(request.skipDirectories),
  ]);
  if (reply.status !== 0) return refusalOf(reply.status, request.path);
  const root = request.path.endsWith('/') ? request.path : `${request.path}/`;
  const entries: FileStat[] = [];
  for (const part of reply.parts) {
    const payload = new Payload(part);
    while (payload.left >= statBytes) {
      const found = takeStat(payload);
      entries.push({ path: root + payload.take(payload.u16()).toString(), ...found });
    }
  }
  // Folders list in no order; a stable one makes equal trees look equal.
  entries.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return { entries, isWhole: reply.payload.u8() === 1 };
}

export async function digest(link: GuestLink, path: string): Promise<FileDigest | Refusal> {
  const reply = await link.request(toGuest.hash, [text(path)]);
  if (reply.status !== 0) return refusalOf(reply.status, path);
  return takeDigest(reply.payload);
}

function takeDigest(payload: Payload): FileDigest {
  const exists = payload.u8() === 1;
  const sizeBytes = payload.u64();
  return { exists, sizeBytes, sha256: payload.take(32).toString('hex') };
}

function expectation(expected: string | null | undefined): Buffer {
  const kind = expected === undefined ? 0 : expected === null ? 1 : 2;
  const bytes = kind === 2 ? Buffer.from(expected as string, 'hex') : Buffer.alloc(32);
  return Buffer.concat([u8(kind), bytes]);
}

/** Makes one edit, if what it expects is there. `tag` names the temporary file of the call. */
export async function applyEdit(link: GuestLink, edit: Edit, tag: number): Promise<EditedFile | Refusal> {
  const expected = expectation(edit.expectSha256);
  if (edit.content === null) {
    const reply = await link.request(toGuest.remove, [expected, text(edit.path)]);
    if (reply.status !== 0) return refusalOf(reply.status, edit.path);
    return { path: edit.path, sizeBytes: 0, sha256: null, existed: takeDigest(reply.payload).exists };
  }
  const reply = await link.put([u32(edit.mode ?? 0o644), expected, u32(tag), text(edit.path)], edit.content);
  if (reply.status !== 0) return refusalOf(reply.status, edit.path);
  const done = takeDigest(reply.payload);
  return { path: edit.path, sizeBytes: done.sizeBytes, sha256: done.sha256, existed: done.exists };
}
