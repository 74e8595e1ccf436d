import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TestApi } from '../../../../test/sdk/test-api.ts';
import { dataOf, openTestApi } from '../../../../test/sdk/test-api.ts';
import type { JsonObject } from '../../../protocol/json.ts';

const fileBytes = 200_000;
let nowMs = Date.now();
let api: TestApi;
beforeAll(async () => {
  api = await openTestApi({ now: () => nowMs, limits: { fileBytes } });
});
afterAll(() => api.close());

async function upload(form: FormData): Promise<{ status: number; body: JsonObject }> {
  const response = await api.fetch('/v1/files', { method: 'POST', body: form });
  return { status: response.status, body: (await response.json()) as JsonObject };
}

function formOf(
  content: string | Uint8Array<ArrayBuffer>,
  name: string,
  type = 'text/plain',
  more: Record<string, string> = {},
): FormData {
  const form = new FormData();
  form.set('file', new File([content], name, { type }));
  for (const [key, value] of Object.entries(more)) form.set(key, value);
  return form;
}

const part = (name: string) =>
  `--B\r\ncontent-disposition: form-data; name="file"; filename="${name}"\r\n\r\nx\r\n`;

const raw = (body: string, type = 'multipart/form-data; boundary=B') =>
  api.fetch('/v1/files', { method: 'POST', body, headers: { 'content-type': type } });

describe('files', () => {
  it('come back byte by byte, as downloads that no browser will run', async () => {
    const bytes = new Uint8Array(150_000).map((_, i) => i % 251);
    const { status, body } = await upload(formOf(bytes, 'dir/ä “x”.html', 'text/html'));
    expect([status, body]).toEqual([
      200,
      {
        type: 'file',
        id: expect.stringMatching(/^file_/),
        filename: 'ä “x”.html',
        mime_type: 'text/html',
        size_bytes: 150_000,
        created_at: expect.any(String),
        downloadable: true,
        expires_at: null,
        scope: null,
      },
    ]);
    const response = await api.fetch(`/v1/files/${body.id}/content`);
    expect(Buffer.compare(Buffer.from(await response.arrayBuffer()), Buffer.from(bytes))).toBe(0);
    expect(response.headers.get('content-disposition')).toMatch(/^attachment/);
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    expect(response.headers.get('content-security-policy')).toContain('sandbox');
    expect((await api.ask('GET', `/v1/files/${body.id}`)).body).toEqual(body);
  });

  it('may be empty, and get a name where they have none', async () => {
    expect((await upload(formOf('', '..'))).body).toMatchObject({ size_bytes: 0, filename: 'unnamed.txt' });
    expect((await upload(formOf('x', 'C:\\Users\\me\\a.txt'))).body.filename).toBe('a.txt');
  });

  it('over the limit are 413 and leave nothing behind', async () => {
    const before = await blobCount();
    const { status, body } = await upload(formOf('x'.repeat(fileBytes + 1), 'big.txt'));
    expect([status, (body.error as JsonObject).type]).toEqual([413, 'request_too_large']);
    expect((await upload(formOf('x'.repeat(fileBytes), 'fits.txt'))).status).toBe(200);
    expect(await blobCount()).toBe(before + 1);
  });

  it('cut off in the middle are refused and leave nothing behind', async () => {
    const before = await blobCount();
    const head = '--B\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n';
    expect((await raw(`${head}only the beginning`)).status).toBe(400);
    expect(await blobCount()).toBe(before);
  });

  it.each([
    ['no multipart', () => raw('{}', 'application/json')],
    ['no boundary', () => raw('x', 'multipart/form-data')],
    ['no parts', () => raw('--B--\r\n')],
    ['noise', () => raw('not multipart at all')],
    ['two files', () => raw(`${part('a')}${part('b')}--B--\r\n`)],
    [
      'a file part of another name',
      () => raw('--B\r\ncontent-disposition: form-data; name="files[]"; filename="a"\r\n\r\nx\r\n--B--\r\n'),
    ],
    [
      'an unknown field',
      () =>
        api.fetch('/v1/files', { method: 'POST', body: formOf('x', 'a', 'text/plain', { purpose: 'x' }) }),
    ],
    [
      'an expiry too soon',
      () =>
        api.fetch('/v1/files', {
          method: 'POST',
          body: formOf('x', 'a', 'text/plain', { expires_in_seconds: '60' }),
        }),
    ],
  ])('with %s are refused', async (_name, send) => {
    const response = await send();
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: 'invalid_request_error' } });
  });

  it('expire: still listed, no longer to be downloaded', async () => {
    const { body } = await upload(formOf('x', 'a.txt', 'text/plain', { expires_in_seconds: '3600' }));
    expect(body.expires_at).toEqual(expect.any(String));
    expect((await api.fetch(`/v1/files/${body.id}/content`)).status).toBe(200);
    nowMs += 3_600_001;
    const gone = await api.ask('GET', `/v1/files/${body.id}/content`);
    expect(gone.body.error).toMatchObject({
      type: 'not_found_error',
      details: { error_code: 'file_expired' },
    });
  });

  it('are listed in pages, by ids, and as 0.x SDKs page', async () => {
    const made: string[] = [];
    for (let i = 0; i < 5; i++) {
      nowMs += 1;
      made.push(String((await upload(formOf(`${i}`, `p${i}`))).body.id));
    }
    const first = await api.ask('GET', '/v1/files?limit=2');
    const second = await api.ask('GET', `/v1/files?limit=2&page=${first.body.next_page}`);
    const old = await api.ask('GET', `/v1/files?limit=2&after_id=${first.body.last_id}`);
    expect([...dataOf(first), ...dataOf(second)].map((one) => one.id)).toEqual(made.toReversed().slice(0, 4));
    expect(first.body).toMatchObject({ has_more: true, first_id: made[4], last_id: made[3] });
    expect(old.body.data).toEqual(second.body.data);
    const byIds = await api.ask('GET', `/v1/files?ids[]=${made[1]}&ids[]=file_unknown&ids[]=${made[0]}`);
    expect([dataOf(byIds).map((one) => one.id), byIds.body.next_page]).toEqual([[made[1], made[0]], null]);
    expect((await api.ask('GET', `/v1/files?ids[]=${made[1]}&limit=1`)).status).toBe(400);
  });

  it('are gone once deleted', async () => {
    const { body } = await upload(formOf('x', 'a'));
    expect((await api.ask('DELETE', `/v1/files/${body.id}`)).body).toEqual({
      id: body.id,
      type: 'file_deleted',
    });
    expect((await api.ask('GET', `/v1/files/${body.id}`)).status).toBe(404);
    expect((await api.ask('GET', `/v1/files/${body.id}/content`)).status).toBe(404);
    expect((await api.ask('DELETE', `/v1/files/${body.id}`)).status).toBe(404);
  });
});

async function blobCount(): Promise<number> {
  const entries = await readdir(api.directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile() && entry.parentPath.includes('blobs')).length;
}
