/** Lists of the API, page by page to their end. */
import type { Client } from './client.ts';
import type { Page } from './sessions.ts';

const pageLimit = '100';

export async function listAll<T>(
  client: Client,
  path: string,
  filter: Record<string, string> = {},
): Promise<T[]> {
  const all: T[] = [];
  for (let page: string | null | undefined; page !== null; ) {
    const query = { limit: pageLimit, ...filter, ...(page === undefined ? {} : { page }) };
    const got: Page<T> = await client.get<Page<T>>(path, { query });
    all.push(...got.data);
    page = got.next_page;
  }
  return all;
}
