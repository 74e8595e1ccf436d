/** Upload a file: bytes are fsynced as a blob before the append that names them, so a listed file is always whole. */
import type { Problem } from '../../../protocol/errors.ts';
import { isProblem, problem } from '../../../protocol/errors.ts';
import { file, fileExpirySeconds } from '../../../protocol/files.ts';
import { uploadOperation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { requestKeyOf } from '../../request-key.ts';
import { readUpload, safeFilename } from './multipart.ts';
import { fileRow, shownFile } from './row.ts';

export const uploadFile = uploadOperation({
  id: 'uploadFile',
  method: 'post',
  path: '/v1/files',
  tag: 'files',
  summary: 'Upload a file',
  response: file,
  problems: ['too_large', 'idempotency_key_reused'],
  async run(incoming) {
    const { deps, principal, limits, request } = incoming;
    const { organization } = principal.tenant;
    const upload = await readUpload(request, limits.fileBytes, (bytes) =>
      deps.blobs.put(organization, bytes),
    );
    if (isProblem(upload)) return upload;
    const expirySeconds = expiryOf(upload.fields);
    if (typeof expirySeconds === 'object' && expirySeconds !== null) return expirySeconds;
    const mimeType = mimeTypeOf(upload.mimeType);
    const what = {
      filename: safeFilename(upload.filename, mimeType),
      mimeType,
      ...upload.taken,
      expirySeconds,
    };
    const key = requestKeyOf(incoming, what);
    if (key !== null && isProblem(key)) return key;
    return changeOrganization({ deps, principal, key }, async (mint, nowMs) => {
      const expiresAt = expirySeconds === null ? null : new Date(nowMs + expirySeconds * 1000).toISOString();
      const row = fileRow({ ...what, id: mint('file', 'file'), expiresAt, session: null }, nowMs);
      const facts = { file_id: row.id, size_bytes: what.sizeBytes };
      return { event: { type: 'file.created', facts }, resources: [row], answer: shownFile(row) };
    });
  },
});

function expiryOf(fields: Map<string, string>): number | null | Problem {
  const unknown = [...fields.keys()].find((name) => name !== 'expires_in_seconds');
  if (unknown !== undefined) return problem('invalid_request', `${unknown}: unknown field`);
  const given = fields.get('expires_in_seconds');
  if (given === undefined) return null;
  const { min, max } = fileExpirySeconds;
  const seconds = /^\d{1,9}$/.test(given) ? Number(given) : Number.NaN;
  return seconds >= min && seconds <= max
    ? seconds
    : problem('invalid_request', `expires_in_seconds: a whole number from ${min} to ${max}`);
}

function mimeTypeOf(given: string): string {
  return /^[\w.+-]{1,100}\/[\w.+-]{1,100}$/.test(given) ? given.toLowerCase() : 'application/octet-stream';
}
