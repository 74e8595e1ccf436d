/**
 * Content-addressed bytes in `<dir>/blobs/<organization>/<aa>/<sha256>`.
 *
 * A blob is there, whole and fsynced, before `put` resolves (it precedes the append that names it), or it is not there
 * at all: bytes go to a temporary file that is renamed once they are on disk. No part of a path comes from a caller
 * unchecked.
 */
import { createHash, randomUUID } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Blobs } from './store.ts';

export function openBlobs(directory: string): Blobs {
  return new DirectoryBlobs(path.join(path.resolve(directory), 'blobs'));
}

class DirectoryBlobs implements Blobs {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async put(
    organization: string,
    data: AsyncIterable<Uint8Array> | Uint8Array,
  ): Promise<{ sha256: string; sizeBytes: number }> {
    const folder = this.#folder(organization);
    await makeDirectory(folder);
    const temporary = path.join(folder, `${randomUUID()}.new`);
    try {
      const written = await writeAll(temporary, data);
      const target = this.#file(organization, written.sha256);
      await makeDirectory(path.dirname(target));
      // Replacing an equal blob is harmless, and its name becomes durable again.
      await rename(temporary, target);
      await fsyncDirectory(path.dirname(target));
      return written;
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async read(
    organization: string,
    sha256: string,
    offset: number,
    maxBytes: number,
  ): Promise<Uint8Array | null> {
    const file = await openIfThere(this.#file(organization, sha256));
    if (file === null) return null;
    try {
      const { size } = await file.stat();
      const wanted = Math.max(0, Math.min(maxBytes, size - offset));
      const bytes = Buffer.alloc(wanted);
      let done = 0;
      while (done < wanted) {
        const { bytesRead } = await file.read(bytes, done, wanted - done, offset + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    } finally {
      await file.close();
    }
  }

  async delete(organization: string, sha256: string): Promise<void> {
    await rm(this.#file(organization, sha256), { force: true });
  }

  #folder(organization: string): string {
    if (!/^[A-Za-z0-9_-]{1,128}$/.test(organization)) throw new Error('not the name of an organization');
    return path.join(this.#root, organization);
  }

  #file(organization: string, sha256: string): string {
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error('not a sha256 in lower-case hex');
    return path.join(this.#folder(organization), sha256.slice(0, 2), sha256);
  }
}

async function writeAll(
  file: string,
  data: AsyncIterable<Uint8Array> | Uint8Array,
): Promise<{ sha256: string; sizeBytes: number }> {
  const digest = createHash('sha256');
  let sizeBytes = 0;
  const handle = await open(file, 'wx', 0o600);
  try {
    for await (const chunk of data instanceof Uint8Array ? [data] : data) {
      digest.update(chunk);
      sizeBytes += chunk.byteLength;
      await handle.appendFile(chunk);
    }
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { sha256: digest.digest('hex'), sizeBytes };
}

async function openIfThere(file: string): Promise<FileHandle | null> {
  try {
    return await open(file, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Makes the directory durable: each new name is fsynced into the directory above it. */
async function makeDirectory(directory: string): Promise<void> {
  const first = await mkdir(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let at = directory; at.length >= first.length; at = path.dirname(at)) {
    await fsyncDirectory(path.dirname(at));
  }
}

async function fsyncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
