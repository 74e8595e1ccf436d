/**
 * Text files of the sandbox, read whole or in part over the Executor port. Everything that keeps a file from being
 * text that a model can work with (absent, a directory, a pipe, binary, too big) ends as a sentence for the model.
 *
 * S3: reads only through the port; nothing is opened on this side.
 */
import { createHash } from 'node:crypto';
import type { FileRead, Refusal } from '../sandbox/executor.ts';
import { isRefusal } from '../sandbox/executor.ts';
import { refusalText } from './outcome.ts';
import type { ToolContext } from './tool.ts';

export type TextFile = {
  ok: true;
  text: string;
  sizeBytes: number;
  /** Of the bytes as they were read: what a later change expects to find. */
  sha256: string;
  /** False where bytes that are not UTF-8 were shown as U+FFFD: such a text must not be written back. */
  isExact: boolean;
};

export type NotText = {
  ok: false;
  reason: 'absent' | 'unusable' | 'too_large';
  message: string;
  sizeBytes: number;
};

/** `shownPath` is the model's own spelling, for the messages. */
export async function readTextFile(
  context: ToolContext,
  path: string,
  shownPath: string,
  maxBytes: number,
): Promise<TextFile | NotText> {
  const { session, fence, executor } = context;
  const read = await executor.readFile({ session, fence, path, maxBytes });
  if (isRefusal(read)) return unreadable(context, read, path, shownPath);
  if (!read.isWhole) {
    const message = `${shownPath} is ${read.sizeBytes} bytes, more than the limit of ${maxBytes}.`;
    return { ok: false, reason: 'too_large', message, sizeBytes: read.sizeBytes };
  }
  return asText(read, shownPath);
}

function asText(read: FileRead, shownPath: string): TextFile | NotText {
  const { data, sizeBytes } = read;
  const binary = binaryKind(data);
  if (binary !== null)
    return { ok: false, reason: 'unusable', message: binaryMessage(shownPath, binary, sizeBytes), sizeBytes };
  const sha256 = createHash('sha256').update(data).digest('hex');
  const exact = decodeExactly(data);
  if (exact !== null) return { ok: true, text: exact, sizeBytes, sha256, isExact: true };
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(data);
  return { ok: true, text, sizeBytes, sha256, isExact: false };
}

/** Null where the bytes are no UTF-8 text. A byte order mark stays, so that writing the text back keeps it. */
export function decodeExactly(data: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return null;
  }
}

/** Why a path cannot be read as text; says what it is instead where the sandbox can tell. */
export async function unreadable(
  context: ToolContext,
  refusal: Refusal,
  path: string,
  shownPath: string,
): Promise<NotText> {
  const not = (reason: NotText['reason'], message: string): NotText => ({
    ok: false,
    reason,
    message,
    sizeBytes: 0,
  });
  if (refusal.refused === 'not_found') return not('absent', refusalText(refusal, shownPath));
  if (refusal.refused !== 'not_a_file') return not('unusable', refusalText(refusal, shownPath));
  const { session, fence, executor } = context;
  const stat = await executor.stat({ session, fence, path });
  if (!isRefusal(stat) && stat.type === 'directory') {
    return not('unusable', `${shownPath} is a directory. Use glob or bash (ls) to see what is in it.`);
  }
  return not('unusable', `${shownPath} is not a regular file (a pipe, a socket or a device).`);
}

const sniffedBytes = 8 * 1024;

const signatures: [kind: string, prefix: number[]][] = [
  ['a PNG image', [0x89, 0x50, 0x4e, 0x47]],
  ['a JPEG image', [0xff, 0xd8, 0xff]],
  ['a GIF image', [0x47, 0x49, 0x46, 0x38]],
  ['a PDF document', [0x25, 0x50, 0x44, 0x46, 0x2d]],
  ['a ZIP archive (or a format built on it)', [0x50, 0x4b, 0x03, 0x04]],
  ['gzip data', [0x1f, 0x8b]],
  ['an ELF program', [0x7f, 0x45, 0x4c, 0x46]],
];

/** Null for text: no known binary signature and no NUL among the first bytes (the test that git and grep use). */
export function binaryKind(data: Uint8Array): string | null {
  const known = signatures.find(([, prefix]) => prefix.every((byte, index) => data[index] === byte));
  if (known) return known[0];
  return data.subarray(0, sniffedBytes).includes(0) ? 'binary data' : null;
}

export function binaryMessage(shownPath: string, kind: string, sizeBytes: number): string {
  return `${shownPath} is not text: it looks like ${kind} (${sizeBytes} bytes). Use bash to work with it.`;
}
