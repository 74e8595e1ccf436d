import { problem } from '../../../protocol/errors.ts';
import { file } from '../../../protocol/files.ts';
import { operation } from '../../operation.ts';
import { shownFile } from './row.ts';

export const retrieveFile = operation({
  id: 'retrieveFile',
  method: 'get',
  path: '/v1/files/{file_id}',
  tag: 'files',
  summary: 'Retrieve the metadata of a file',
  response: file,
  problems: ['not_found'],
  async run({ deps, principal, params }) {
    const id = params.file_id ?? '';
    const row = await deps.store.resource(principal.tenant, 'file', id);
    return row ? { body: shownFile(row) } : problem('not_found', `There is no file ${id}.`);
  },
});
