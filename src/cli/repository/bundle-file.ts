/**
 * Reads the head of a git bundle ourselves, before any git sees the file: what it offers and what it wants.
 *
 * The file is a stranger's. Exactly one ref is accepted, with the name and commit the server named; everything else
 * is refused, and so is every capability but the hash's name.
 */
import { open } from 'node:fs/promises';

export type BundleHead = {
  objectFormat: 'sha1' | 'sha256';
  /** Commits the receiver must have. */
  prerequisites: string[];
  refs: { sha: string; name: string }[];
  /** Where the pack begins. */
  packOffset: number;
};

export type BundleHeadResult = { ok: true; head: BundleHead } | { ok: false; message: string };

const MAX_HEAD_BYTES = 256 * 1024;
const MAX_PREREQUISITES = 1_000;

export async function readBundleHead(file: string): Promise<BundleHeadResult> {
  const handle = await open(file, 'r');
  try {
    const buffer = Buffer.alloc(MAX_HEAD_BYTES);
    const { bytesRead } = await handle.read(buffer, 0, MAX_HEAD_BYTES, 0);
    return parseBundleHead(buffer.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}

export function parseBundleHead(bytes: Buffer): BundleHeadResult {
  const end = bytes.indexOf('\n\n');
  if (end === -1) return refused('its head does not end');
  const lines = bytes.subarray(0, end).toString('latin1').split('\n');
  const signature = lines.shift();
  if (signature !== '# v2 git bundle' && signature !== '# v3 git bundle')
    return refused('it is no git bundle');
  const head: BundleHead = { objectFormat: 'sha1', prerequisites: [], refs: [], packOffset: end + 2 };
  for (const line of lines) {
    const problem = readLine(line, head);
    if (problem !== null) return refused(problem);
  }
  if (head.prerequisites.length > MAX_PREREQUISITES) return refused('it wants too many commits');
  return { ok: true, head };
}

function readLine(line: string, head: BundleHead): string | null {
  if (line.startsWith('@')) {
    const format = /^@object-format=(sha1|sha256)$/.exec(line)?.[1];
    if (format !== 'sha1' && format !== 'sha256') return `it has a capability we do not accept`;
    head.objectFormat = format;
    return null;
  }
  const shape = head.objectFormat === 'sha1' ? '[0-9a-f]{40}' : '[0-9a-f]{64}';
  const wanted = new RegExp(`^-(${shape})(?: .*)?$`).exec(line)?.[1];
  if (wanted !== undefined) {
    head.prerequisites.push(wanted);
    return null;
  }
  const ref = new RegExp(`^(${shape}) (\\S+)$`).exec(line);
  if (ref === null) return 'its head has a line that is no commit and no ref';
  head.refs.push({ sha: ref[1] ?? '', name: ref[2] ?? '' });
  return null;
}

function refused(why: string): { ok: false; message: string } {
  return { ok: false, message: `The bundle is refused: ${why}` };
}
