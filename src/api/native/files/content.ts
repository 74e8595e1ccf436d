import { problem } from '../../../protocol/errors.ts';
import type { Blobs } from '../../../store/store.ts';
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
  async run({ deps, principal, params }) {
    const id = params.file_id ?? '';
    const row = await deps.store.resource(principal.tenant, 'file', id);
    if (!row) return problem('not_found', `There is no file ${id}.`);
    if (isExpired(row, deps.now())) return problem('file_expired', `File ${id} has expired.`);
    const body = row.body as { sha256: string; size_bytes: number; mime_type: string; filename: string };
    return new Response(bytesOf(deps.blobs, row.organization, body.sha256, body.size_bytes), {
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

function bytesOf(
  blobs: Blobs,
  organization: string,
  sha256: string,
  sizeBytes: number,
): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (offset >= sizeBytes) return controller.close();
      const chunk = await blobs.read(organization, sha256, offset, Math.min(chunkBytes, sizeBytes - offset));
      // Headers are out: an ending that is not the end must be an error of the transfer.
      if (!chunk || chunk.length === 0) return controller.error(new Error(`blob ${sha256} is not whole`));
      offset += chunk.length;
      controller.enqueue(chunk);
    },
  });
}
