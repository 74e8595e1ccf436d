/**
 * A multipart upload, read as a stream: the file part goes to whoever takes it as it comes, chunk by chunk, with
 * back-pressure. Nothing holds the whole file; the limits hold whatever `content-length` says.
 */
import { Readable } from 'node:stream';
import type { BusboyFileStream, BusboyInstance } from '@fastify/busboy';
import { Busboy } from '@fastify/busboy';
import type { Problem } from '../../../protocol/errors.ts';
import { problem } from '../../../protocol/errors.ts';

export type Upload<T> = { taken: T; filename: string; mimeType: string; fields: Map<string, string> };

/** Room for the boundaries, part headers and text fields beside the file. */
const overheadBytes = 64 * 1024;

/**
 * Reads the part called `file`, giving its bytes to `take`, and the text fields. `take` sees an error where the upload
 * ends early or is too large, so that it keeps nothing.
 */
export async function readUpload<T>(
  request: Request,
  maxBytes: number,
  take: (bytes: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<Upload<T> | Problem> {
  const tooLarge = problem('too_large', `The file is larger than ${maxBytes} bytes.`);
  const type = request.headers.get('content-type') ?? '';
  if (!/^multipart\/form-data\s*;/i.test(type)) {
    return problem('invalid_request', 'Send the file as multipart/form-data, in a part called "file".');
  }
  if (!request.body) return problem('invalid_request', 'The body is empty.');
  if (Number(request.headers.get('content-length') ?? 0) > maxBytes + overheadBytes) return tooLarge;
  let parser: BusboyInstance;
  try {
    parser = new Busboy({
      headers: { 'content-type': type },
      limits: {
        files: 1,
        fields: 8,
        fieldSize: 1024,
        fieldNameSize: 100,
        fileSize: maxBytes + 1,
        headerPairs: 50,
      },
    });
  } catch {
    return problem('invalid_request', 'The multipart body has no valid boundary.');
  }
  const source = Readable.fromWeb(request.body as Parameters<typeof Readable.fromWeb>[0]);
  const parts = collect(parser, source, maxBytes, take);
  source.on('error', (error) => parser.destroy(error)).pipe(parser);
  try {
    const upload = await parts;
    return upload ?? problem('invalid_request', 'There is no file part called "file".');
  } catch (error) {
    if (error instanceof UploadTooLarge) return tooLarge;
    if (error instanceof UploadBroken) return problem('invalid_request', error.message);
    throw error;
  } finally {
    source.unpipe(parser);
    source.destroy();
  }
}

class UploadTooLarge extends Error {}
class UploadBroken extends Error {}

function collect<T>(
  parser: BusboyInstance,
  source: Readable,
  maxBytes: number,
  take: (bytes: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<Upload<T> | null> {
  return new Promise((resolve, reject) => {
    const fields = new Map<string, string>();
    let file: Promise<Upload<T>> | null = null;
    let stream: BusboyFileStream | null = null;
    const broken = (message: string) => {
      const error = new UploadBroken(message);
      stream?.destroy(error);
      // The taker cleans up first: once we have answered, nothing of the upload is left.
      void Promise.allSettled([file]).then(() => reject(error));
    };
    parser.on('field', (name, value) => {
      fields.set(name, value);
    });
    parser.on('filesLimit', () => broken('There is more than one file in the upload.'));
    parser.on('file', (name, part, filename, _encoding, mimeType) => {
      if (name !== 'file') {
        part.on('error', () => {}).resume();
        return broken(`Unknown file part ${name.slice(0, 100)}: the file goes in a part called "file".`);
      }
      stream = part;
      // The parser emits errors on a part whether or not somebody reads it by then; unheard they would end the process.
      part.on('error', () => {});
      file = take(bounded(part, maxBytes)).then((taken) => ({
        taken,
        filename: filename ?? '',
        mimeType,
        fields,
      }));
      // What fails here ends the whole upload; the rest of the body is of no use.
      file.catch(reject);
    });
    parser.on('error', () => broken('The multipart body is malformed.'));
    parser.on('finish', () => (file ?? Promise.resolve(null)).then(resolve, reject));
    source.on('close', () => {
      if (!source.readableEnded) broken('The body ended before it was whole.');
    });
  });
}

async function* bounded(part: BusboyFileStream, maxBytes: number): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of part as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size > maxBytes) throw new UploadTooLarge();
    yield chunk;
  }
}

/** Only the last component of a name is kept, and only what can stand in a header and a path (§6.1). */
export function safeFilename(given: string, mimeType: string): string {
  const last = given.split(/[/\\]/).at(-1) ?? '';
  const clean = Array.from(
    last
      .replace(/[\0-\x1f\x7f]/g, '')
      .toWellFormed()
      .trim(),
  )
    .slice(0, 200)
    .join('');
  if (clean !== '' && clean !== '.' && clean !== '..') return clean;
  return `unnamed${extensions[mimeType] ?? ''}`;
}

const extensions: Record<string, string> = {
  'text/plain': '.txt',
  'text/csv': '.csv',
  'text/markdown': '.md',
  'application/json': '.json',
  'application/pdf': '.pdf',
  'image/png': '.png',
  'image/jpeg': '.jpg',
};
