/** What keeps a directory from being opened, and what does not. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { appendOf, create, draft, readAll } from '../conformance/scratch.ts';
import { open } from './engine-under-test.ts';
import { migrate } from './migrate.ts';
import { migrations } from './migrations/index.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-opening-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function used(): Promise<void> {
  const store = await open(directory);
  await create(store, 's', { events: [draft({ public: { text: 'kept' } })] });
  await store.close();
}

function database(): DatabaseSync {
  return new DatabaseSync(path.join(directory, 'scriptorium.db'));
}

it('a second open of a directory in use is refused and names the directory and the process', async () => {
  const store = await open(directory);
  await expect(open(directory)).rejects.toMatchObject({ name: 'StoreLocked', directory, pid: process.pid });
  await create(store, 's');
  await store.close();
  await (await open(directory)).close();
});

it('a directory whose owner was killed with -9 opens at once', async () => {
  const child = fileURLToPath(new URL('../conformance/append-until-killed.ts', import.meta.url));
  const openModule = new URL('./engine-under-test.ts', import.meta.url).href;
  const owner = spawn(process.execPath, [child, openModule, directory, '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(owner.stdout, 'data');
  await expect(open(directory)).rejects.toMatchObject({ name: 'StoreLocked', pid: owner.pid });
  owner.stdout.resume();
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  await (await open(directory)).close();
});

it('the master key is made once, for its owner only, in a directory of its own', async () => {
  await used();
  const file = path.join(directory, 'keys', 'master.key');
  const key = await readFile(file);
  expect(key).toHaveLength(32);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await stat(path.dirname(file))).mode & 0o777).toBe(0o700);
  await (await open(directory)).close();
  expect(await readFile(file)).toEqual(key);
});

it('a lost master key is refused, not replaced, and the logs open again when it is back', async () => {
  await used();
  const file = path.join(directory, 'keys', 'master.key');
  const key = await readFile(file);
  await unlink(file);
  await expect(open(directory)).rejects.toMatchObject({ name: 'MasterKeyRefused' });
  await expect(stat(file)).rejects.toThrow();
  for (const wrong of [Buffer.alloc(32, 7), Buffer.alloc(5)]) {
    await writeFile(file, wrong);
    await expect(open(directory)).rejects.toMatchObject({ name: 'MasterKeyRefused' });
  }
  await writeFile(file, key);
  const store = await open(directory);
  expect((await readAll(store, 's'))[0]?.public).toEqual({ text: 'kept' });
  await store.close();
});

it('a database that a newer breaking release has changed is refused, a harmless newer one is accepted', async () => {
  await used();
  const insert = 'INSERT INTO migrations (revision, name, breaking, applied_at) VALUES (?, ?, ?, ?)';
  const db = database();
  db.prepare(insert).run(9_001, 'harmless', 0, 'later');
  await (await open(directory)).close();
  db.prepare(insert).run(9_002, 'breaking', 1, 'later');
  db.close();
  await expect(open(directory)).rejects.toMatchObject({ name: 'SchemaTooNew' });
});

it('two processes that migrate at once apply a revision once', () => {
  const both = [database(), database()];
  const again = [
    ...migrations,
    { revision: 2, name: 'test', breaking: false, sql: 'CREATE TABLE twice (x)' },
  ];
  for (const db of both) expect(migrate(db, migrations)).toBeNull();
  for (const db of both) expect(migrate(db, again)).toBeNull();
  for (const db of both) db.close();
});

it('a migration that fails leaves nothing of itself behind', () => {
  const db = database();
  const broken = {
    revision: 9_000,
    name: 'broken',
    breaking: false,
    sql: 'CREATE TABLE half (x); CREATE TABLE half (x)',
  };
  expect(() => migrate(db, [...migrations, broken])).toThrow();
  expect(db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'half'").get()).toBeUndefined();
  expect(db.prepare('SELECT max(revision) AS revision FROM migrations').get()).toEqual({
    revision: migrations.at(-1)?.revision,
  });
  db.close();
});

it('every table has organization and project columns', async () => {
  await used();
  const db = database();
  const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
  const names = tables.map(({ name }) => String(name)).filter((name) => !/^(sqlite_|migrations$)/.test(name));
  expect(names.length).toBeGreaterThan(5);
  for (const name of names) {
    const columns = db.prepare(`SELECT name FROM pragma_table_info('${name}') WHERE "notnull" = 1`).all();
    expect(
      columns.map((column) => column.name),
      name,
    ).toEqual(expect.arrayContaining(['organization', 'project']));
  }
  db.close();
});

it('commits are fsynced: the connection runs in WAL mode, and an append reaches the disk before it resolves', async () => {
  const store = await open(directory);
  const wal = path.join(directory, 'scriptorium.db-wal');
  await create(store, 's');
  const before = (await stat(wal)).size;
  await store.append(appendOf('s', { events: Array.from({ length: 50 }, () => draft()) }));
  expect((await stat(wal)).size).toBeGreaterThan(before);
  await store.close();
});

it('a reducer module that does not load is an error of open, and the directory is free again', async () => {
  const { openSqliteStore } = await import('./engine.ts');
  const summarizeModule = new URL('./no-such-module.ts', import.meta.url);
  await expect(openSqliteStore({ directory, summarizeModule })).rejects.toThrow(/no-such-module/);
  await (await open(directory)).close();
});
