/** Files as rows: the object of the API and the digest of its bytes, which stays here. */
import type { JsonObject } from '../../../protocol/json.ts';
import type { ResourcePut } from '../../../store/store.ts';

export type NewFile = {
  id: string;
  filename: string;
  mimeType: string;
  sizeBytes: number;
  sha256: string;
  expiresAt: string | null;
  /** Session it belongs to and is deleted with. */
  session: string | null;
};

export function fileRow(file: NewFile, nowMs: number): ResourcePut {
  const time = new Date(nowMs).toISOString();
  return {
    kind: 'file',
    id: file.id,
    version: 1,
    body: {
      type: 'file',
      id: file.id,
      filename: file.filename,
      mime_type: file.mimeType,
      size_bytes: file.sizeBytes,
      // On the hosted service only what tools made can be downloaded; here every file can.
      downloadable: true,
      expires_at: file.expiresAt,
      scope: file.session === null ? null : { type: 'session', id: file.session },
      sha256: file.sha256,
    },
    createdAt: time,
    updatedAt: time,
    archivedAt: null,
    uniqueName: null,
  };
}

export function shownFile(row: Pick<ResourcePut, 'body' | 'createdAt'>): JsonObject {
  const { sha256: _sha256, ...shown } = row.body;
  return { ...shown, created_at: row.createdAt };
}

export function isExpired(row: Pick<ResourcePut, 'body'>, nowMs: number): boolean {
  const { expires_at } = row.body;
  return typeof expires_at === 'string' && Date.parse(expires_at) <= nowMs;
}
