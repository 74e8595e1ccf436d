import { z } from 'zod';
import { vaultKind } from '../../../guard/vault/vault.ts';
import { isProblem } from '../../../protocol/errors.ts';
import { page, pageOf, truth, wholeNumber } from '../../../protocol/pages.ts';
import { vault } from '../../../protocol/vaults.ts';
import { operation } from '../../operation.ts';
import { readRowPage, shownRow } from '../../rows.ts';

export const listVaults = operation({
  id: 'listVaults',
  method: 'get',
  path: '/v1/vaults',
  tag: 'vaults',
  summary: 'List vaults, newest first',
  query: z.object({
    include_archived: truth.optional(),
    limit: wholeNumber(1, 100).optional(),
    page: page.optional(),
  }),
  response: pageOf(vault),
  async run({ deps, principal, query }) {
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: vaultKind,
      list: 'vaults',
      includeArchived: query.include_archived ?? false,
      page: query.page,
      limit: query.limit ?? 20,
    });
    return isProblem(result) ? result : { body: { data: result.rows.map(shownRow), next_page: result.next } };
  },
});
