import { problem } from '../../../protocol/errors.ts';
import { deletedOf } from '../../../protocol/pages.ts';
import { operation } from '../../operation.ts';
import { changeOrganization } from '../../organization-act.ts';

/** The name goes; the bytes go with the next sweep, if no other file has them. Mounted copies stay with their sessions. */
export const deleteFile = operation({
  id: 'deleteFile',
  method: 'delete',
  path: '/v1/files/{file_id}',
  tag: 'files',
  summary: 'Delete a file',
  response: deletedOf('file_deleted'),
  problems: ['not_found', 'idempotency_key_reused'],
  run: (call) =>
    changeOrganization(call, async () => {
      const id = call.params.file_id ?? '';
      const row = await call.deps.store.resource(call.principal.tenant, 'file', id);
      if (!row) return problem('not_found', `There is no file ${id}.`);
      return {
        event: { type: 'file.deleted', facts: { file_id: id } },
        deleteResources: [{ kind: 'file', id }],
        answer: { id, type: 'file_deleted' },
      };
    }),
});
