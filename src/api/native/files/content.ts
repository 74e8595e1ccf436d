import { problem } from '../../../protocol/errors.ts';
import { failureOf } from '../../failure.ts';
import { operation } from '../../operation.ts';
import { isExpired } from './row.ts';

/** Bytes as they were uploaded, always as a download: nothing of ours is to be run in a browser's origin. */
export const downloadFile = operation({
  id: 'downloadFile',
  method: 'get',
  path: '/v1/files/{file_id}/content',
  tag: 'files',
  summary: 'Download a file',
  response: { kind: 'bytes' },
  problems: ['not_found', 'file_expired'],
  async run({ deps, principal, params, requestId }) {
    const id = params.file_id ?? '';
    const row = await deps.store.resource(principal.tenant, 'file', id);
    if (!row) return problem('not_found', `There is no file ${id}.`);
    if (isExpired(row, deps.now())) return problem('file_expired', `File ${id} has expired.`);
    const body = row.body as { sha256: string; size_bytes: number; mime_type: string; filename: string };
    const content = bytesOf(body.size_bytes, async (offset, maxBytes) => {
      try {
        return await deps.blobs.read(row.organization, body.sha256, offset, maxBytes);
      } catch (error) {
        failureOf(error, deps, requestId);
        return null;
      }
    });
    return new Response(content, {
      headers: {
        'content-type': body.mime_type,
        'content-length': String(body.size_bytes),
        'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(body.filename)}`,
        'content-security-policy': "sandbox; default-src 'none'",
      },
    });
  },
});

const chunkBytes = 1024 * 1024;

type Read = (offset: number, maxBytes: number) => Promise<Uint8Array | null>;

function bytesOf(sizeBytes: number, read: Read): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (offset >= sizeBytes) return controller.close();
      const chunk = await read(offset, Math.min(chunkBytes, sizeBytes - offset));
      // Headers are out: an ending that is not the end must be an error of the transfer.
      if (!chunk || chunk.length === 0) return controller.error(new Error('the file can not be read'));
      offset += chunk.length;
      controller.enqueue(chunk);
    },
  });
}
