/** What fsck is for: a database file that somebody, or a disk, has changed behind the store's back (L1, L3, G4). */
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../src/protocol/ids.ts';
import type { JsonObject } from '../src/protocol/json.ts';
import { defaultTenant } from '../src/protocol/tenant.ts';
import type { TestApi } from './sdk/test-api.ts';
import { dataOf, makeSession, openTestApi, record, say } from './sdk/test-api.ts';

let api: TestApi;
let session: string;

beforeEach(async () => {
  api = await openTestApi();
  session = (await makeSession(api)).id;
  await api.ask('POST', `/v1/sessions/${session}/events`, { events: [say('Go.')] });
  await record(api, session, { type: 'agent.message', public: { content: [] }, private: { a: 1 } });
});
afterEach(() => api.close());

async function damage(change: (db: DatabaseSync) => void): Promise<void> {
  await api.store.close();
  const db = new DatabaseSync(path.join(api.directory, 'scriptorium.db'));
  change(db);
  db.close();
  await api.restart();
}

/** Flips the last bit of a blob. */
function flip(db: DatabaseSync, table: string, column: string, where: string): void {
  const row = db.prepare(`SELECT rowid AS id, ${column} AS bytes FROM ${table} WHERE ${where}`).get();
  const bytes = Buffer.from(row?.bytes as Uint8Array);
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
  db.prepare(`UPDATE ${table} SET ${column} = ? WHERE rowid = ?`).run(bytes, row?.id ?? null);
}

async function findings(): Promise<JsonObject[]> {
  const all: JsonObject[] = [];
  let page: unknown = null;
  do {
    const reply = await api.ask('GET', `/v1/fsck${page === null ? '' : `?page=${page}`}`);
    expect(reply.status).toBe(200);
    all.push(...dataOf(reply));
    page = reply.body.next_page;
  } while (page !== null);
  return all;
}

const of = (stream: string) => `stream = '${stream}'`;
const one = (promise: string, seq: number | null, message: string) => [
  { type: 'finding', stream: session, promise, seq, message: expect.stringContaining(message) },
];

describe('fsck', () => {
  it('finds nothing where nothing is wrong, after an erasure too', async () => {
    const other = await makeSession(api);
    await api.ask('DELETE', `/v1/sessions/${other.id}`);
    expect(await findings()).toEqual([]);
    const { body } = await api.ask('GET', '/v1/fsck');
    expect(body).toMatchObject({ streams: 2, omitted: 0, next_page: null });
    const own = await api.store.stream(defaultTenant, defaultTenant.organization);
    expect(body.events).toBe((own?.head ?? 0) + 5);
  });

  it('names the event whose leaf hash has a bit changed', async () => {
    await damage((db) => flip(db, 'events', 'leaf_hash', `${of(session)} AND seq = 2`));
    expect(await findings()).toEqual(one('G4', 2, 'leaf hash'));
  });

  it.each(["actor = 'user:somebody_else'", "time = '2999-01-01T00:00:00.000Z'", 'fence = 7', "call = 'c'"])(
    'names the event of which a clear column was rewritten: %s',
    async (change) => {
      await damage((db) => db.exec(`UPDATE events SET ${change} WHERE ${of(session)} AND seq = 5`));
      expect(await findings()).toContainEqual(one('G4', 5, 'leaf hash')[0]);
    },
  );

  it.each(['public', 'private'])('names the event whose %s payload has a bit changed', async (column) => {
    await damage((db) => flip(db, 'events', column, `${of(session)} AND seq = 5`));
    expect(await findings()).toEqual(one('G4', 5, 'can not be opened'));
  });

  it('names the session whose summary has a bit changed, and still lists the others', async () => {
    const other = await makeSession(api);
    await damage((db) => flip(db, 'streams', 'summary', of(session)));
    expect(await findings()).toEqual(one('L1', null, 'summary is missing or can not be opened'));
    const listed = dataOf(await api.ask('GET', '/v1/sessions'));
    expect(listed.map(({ id }) => id)).toEqual([other.id]);
    expect((await api.ask('GET', `/v1/sessions/${session}`)).status).toBe(404);
  });

  it('names what differs where an older summary was put back', async () => {
    let old: Uint8Array = Buffer.alloc(0);
    const column = `SELECT summary FROM streams WHERE ${of(session)}`;
    await damage((db) => {
      old = db.prepare(column).get()?.summary as Uint8Array;
    });
    await api.ask('POST', `/v1/sessions/${session}`, { title: 'New' });
    await damage((db) => db.prepare(`UPDATE streams SET summary = ? WHERE ${of(session)}`).run(old));
    expect(await findings()).toEqual(one('L1', null, 'in title, updated_at'));
  });

  it('names the log that was cut at its end, and the one whose head was set back', async () => {
    await damage((db) => db.exec(`DELETE FROM events WHERE ${of(session)} AND seq = 5`));
    expect(await findings()).toContainEqual(one('L1', null, 'the log ends at 4')[0]);
    await damage((db) => db.exec(`UPDATE streams SET head = 3 WHERE ${of(session)}`));
    expect(await findings()).toContainEqual(one('L1', 4, 'the log goes on')[0]);
  });

  it('names the gap where an event was taken out of the middle', async () => {
    await damage((db) => db.exec(`DELETE FROM events WHERE ${of(session)} AND seq = 3`));
    expect(await findings()).toContainEqual(one('L3', 4, 'event 4 follows 2')[0]);
  });

  it('names the session whose key is gone though nobody deleted it', async () => {
    await damage((db) => db.exec(`DELETE FROM stream_keys WHERE ${of(session)}`));
    expect(await findings()).toEqual(one('L1', null, 'its key is gone'));
  });

  it('names every event of the session whose key has a bit changed, and still reads the others', async () => {
    const other = await makeSession(api);
    await damage((db) => flip(db, 'stream_keys', 'wrapped', of(session)));
    const found = await findings();
    expect(found).toEqual([1, 2, 3, 4, 5].map((seq) => one('G4', seq, 'can not be opened')[0]));
    expect(dataOf(await api.ask('GET', '/v1/sessions')).map(({ id }) => id)).toEqual([other.id]);
  });

  it("reads the organisation's own log too", async () => {
    const { organization } = defaultTenant;
    await damage((db) => flip(db, 'events', 'leaf_hash', `${of(organization)} AND seq = 1`));
    expect(await findings()).toEqual([
      expect.objectContaining({ stream: organization, seq: 1, promise: 'G4' }),
    ]);
  });

  it('reads every session of many once, in pages, and finds the one among them', async () => {
    const made = Array.from({ length: 150 }, () => newId('session'));
    await Promise.all(made.map((id) => createBare(id)));
    const victim = made[120] ?? '';
    await damage((db) => flip(db, 'events', 'leaf_hash', `${of(victim)} AND seq = 1`));
    const first = (await api.ask('GET', '/v1/fsck')).body;
    const second = (await api.ask('GET', `/v1/fsck?page=${first.next_page}`)).body;
    expect([first.streams, second.streams, second.next_page]).toEqual([101, 51, null]);
    expect(await findings()).toEqual([expect.objectContaining({ stream: victim, seq: 1, promise: 'G4' })]);
  });

  it('refuses a cursor that is none of its own', async () => {
    await makeSession(api);
    const { next_page } = (await api.ask('GET', '/v1/sessions?limit=1')).body;
    for (const page of ['x', String(next_page)])
      expect((await api.ask('GET', `/v1/fsck?page=${page}`)).status).toBe(400);
  });
});

async function createBare(stream: string): Promise<void> {
  const nothing = { thread: null, turn: null, call: null, causation: null };
  const event = { id: newId('event'), type: 'session.created', actor: 'test', ...nothing };
  const payload = { audience: 'operator' as const, public: { title: null }, private: {} };
  const events = [{ ...event, ...payload }];
  expect((await api.store.append({ ...defaultTenant, stream, create: true, events })).status).toBe('ok');
}
