/** Ours: what leaves a session is a git bundle, kept as a file of the session. */
import { z } from 'zod';
import { isProblem } from '../../../protocol/errors.ts';
import { file } from '../../../protocol/files.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';
import { findSession } from '../../session-act.ts';
import { fileRow, shownFile } from '../files/row.ts';
import { refused } from './diff.ts';

const delivery = z.looseObject({
  type: z.literal('delivery'),
  session_id: z.string(),
  file,
  branch: z.string(),
  head: z.string(),
  base_commit: z.string().nullable(),
});

export const deliverSession = operation({
  id: 'deliverSession',
  method: 'post',
  path: '/v1/sessions/{session_id}/delivery',
  tag: 'delivery',
  summary: 'Bundle the work of a session as a git branch',
  response: delivery,
  problems: ['not_found', 'invalid_request', 'unavailable', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async (mint, nowMs) => {
      const found = await findSession(call);
      if (isProblem(found)) return found;
      const result = await call.deps.sandbox.exportBundle(found.id);
      if (!result.ok) return refused(result);
      const { organization } = call.principal.tenant;
      const blob = await call.deps.blobs.put(organization, result.bundle);
      const row = fileRow(
        {
          id: mint('file', 'delivery'),
          filename: result.filename,
          mimeType: 'application/x-git-bundle',
          ...blob,
          expiresAt: null,
          session: found.id,
        },
        nowMs,
      );
      const { branch, head, baseCommit } = result;
      return {
        event: { type: 'delivery.created', facts: { session_id: found.id, file_id: row.id, branch, head } },
        resources: [row],
        answer: {
          type: 'delivery',
          session_id: found.id,
          file: shownFile(row),
          branch,
          head,
          base_commit: baseCommit,
        },
      };
    }),
});
