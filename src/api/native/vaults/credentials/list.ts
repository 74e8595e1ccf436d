import { z } from 'zod';
import { credentialKind } from '../../../../guard/vault/vault.ts';
import { isProblem } from '../../../../protocol/errors.ts';
import { page, pageOf, truth, wholeNumber } from '../../../../protocol/pages.ts';
import { vaultCredential } from '../../../../protocol/vaults.ts';
import { operation } from '../../../operation.ts';
import { readRowPage, shownRow } from '../../../rows.ts';
import { vaultRow } from '../act.ts';

export const listCredentials = operation({
  id: 'listVaultCredentials',
  method: 'get',
  path: '/v1/vaults/{vault_id}/credentials',
  tag: 'vaults',
  summary: 'List the credentials of a vault, newest first, without their secrets',
  query: z.object({
    include_archived: truth.optional(),
    limit: wholeNumber(1, 100).optional(),
    page: page.optional(),
  }),
  response: pageOf(vaultCredential),
  problems: ['not_found'],
  async run(call) {
    const vault = await vaultRow(call);
    if (isProblem(vault)) return vault;
    const { query, principal, deps } = call;
    const result = await readRowPage(deps.store, {
      ...principal.tenant,
      kind: credentialKind(vault.id),
      list: `credentials of ${vault.id}`,
      includeArchived: query.include_archived ?? false,
      page: query.page,
      limit: query.limit ?? 20,
    });
    return isProblem(result) ? result : { body: { data: result.rows.map(shownRow), next_page: result.next } };
  },
});
