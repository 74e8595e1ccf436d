/** What keeps a database from being opened, what does not, and how it is reached. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PostgresServer } from '../../../test/peers/postgres-server.ts';
import { appendOf, create, draft, okOf, readAll } from '../conformance/scratch.ts';
import { openStore } from '../open.ts';
import { addressOf } from './connection/address.ts';
import { Pool } from './connection/pool.ts';
import { openPostgresStore } from './engine.ts';
import { databaseOf, discard, open, serverVariable } from './engine-under-test.ts';
import { migrate } from './migrate.ts';
import { migrations } from './migrations/index.ts';

let server: PostgresServer;
let directory: string;

beforeAll(async () => {
  server = await PostgresServer.start();
  process.env[serverVariable] = server.url('postgres');
});
afterAll(() => server.stop());

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'scriptorium-opening-'));
});
afterEach(async () => {
  await discard(directory);
  await rm(directory, { recursive: true, force: true });
});

const summarizeModule = new URL('../conformance/count-summary.ts', import.meta.url);

async function used(): Promise<void> {
  const store = await open(directory);
  await create(store, 's', { events: [draft({ public: { text: 'kept' } })] });
  await store.close();
}

/** An empty database, and how a store of it would be opened. */
async function empty(): Promise<{ databaseUrl: string; masterKeyFile: string; summarizeModule: URL }> {
  await server.query('postgres', `CREATE DATABASE "${databaseOf(directory)}"`);
  const masterKeyFile = path.join(directory, 'fleet.key');
  await writeFile(masterKeyFile, Buffer.alloc(32, 1));
  return { databaseUrl: server.url(databaseOf(directory)), masterKeyFile, summarizeModule };
}

const onDatabase = <R extends object>(text: string, values: unknown[] = []): Promise<R[]> =>
  server.query(databaseOf(directory), text, values);

describe('an empty database', () => {
  it('that many processes open at once gets its schema once, and works for all of them', async () => {
    const options = await empty();
    const stores = await Promise.all(Array.from({ length: 6 }, () => openStore(options)));
    expect(await onDatabase('SELECT revision FROM migrations')).toHaveLength(migrations.length);
    await Promise.all(stores.map((store, n) => create(store, `s${n}`)));
    for (const store of stores) expect(await readAll(store, 's3')).toHaveLength(1);
    await Promise.all(stores.map((store) => store.close()));
  });

  it('keeps the key of whoever came first: another one is refused, also by a store that has no stream yet', async () => {
    const options = await empty();
    await (await openStore(options)).close();
    await writeFile(options.masterKeyFile, Buffer.alloc(32, 2));
    await expect(openStore(options)).rejects.toMatchObject({ name: 'MasterKeyRefused' });
    await writeFile(options.masterKeyFile, 'short');
    await expect(openStore(options)).rejects.toMatchObject({ name: 'MasterKeyRefused' });
    await rm(options.masterKeyFile);
    await expect(openStore(options)).rejects.toMatchObject({ name: 'MasterKeyRefused' });
  });

  it('is left as it was by a migration that fails', async () => {
    const options = await empty();
    const limits = { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000, maxAgeSeconds: 0 };
    const pool = new Pool(addressOf(options.databaseUrl), limits);
    const sql = 'CREATE TABLE half (x int); CREATE TABLE half (x int)';
    const broken = { revision: 9_000, name: 'broken', breaking: false, sql };
    await expect(migrate(pool, [...migrations, broken])).rejects.toThrow('half');
    const applied = await onDatabase('SELECT revision::int FROM migrations ORDER BY 1');
    expect(applied).toEqual(migrations.map(({ revision }) => ({ revision })));
    expect(await onDatabase("SELECT to_regclass('half') AS half")).toEqual([{ half: null }]);
    await pool.end();
  });
});

it('a database that a newer breaking release has changed is refused, a harmless newer one is accepted', async () => {
  await used();
  const insert = 'INSERT INTO migrations (revision, name, breaking) VALUES ($1, $2, $3)';
  await onDatabase(insert, [9_001, 'harmless', false]);
  await (await open(directory)).close();
  await onDatabase(insert, [9_002, 'breaking', true]);
  await expect(open(directory)).rejects.toMatchObject({ name: 'SchemaTooNew' });
});

it('every table has organization and project columns, but those of the deployment itself', async () => {
  await used();
  const columns = await onDatabase<{ table_name: string; names: string[] }>(
    `SELECT table_name::text, array_agg(column_name::text) AS names FROM information_schema.columns
      WHERE table_schema = 'public' AND is_nullable = 'NO' GROUP BY table_name`,
  );
  const ofTenants = columns.filter(
    ({ table_name }) => !['migrations', 'workers', 'deployment'].includes(table_name),
  );
  expect(ofTenants.length).toBeGreaterThan(5);
  for (const { table_name, names } of ofTenants) {
    expect(names, table_name).toEqual(expect.arrayContaining(['organization', 'project']));
  }
});

it('a server that would lose what it acknowledged, or has another encoding, is refused by name', async () => {
  const options = await empty();
  await server.query('postgres', 'ALTER SYSTEM SET fsync = off');
  await server.query('postgres', 'SELECT pg_reload_conf()');
  let refusal = '';
  for (let tries = 0; tries < 100 && refusal === ''; tries++) {
    refusal = await openStore(options).then(
      (store) => store.close().then(() => ''),
      (error: Error) => error.message,
    );
  }
  expect(refusal).toContain('fsync');
  await server.query('postgres', 'ALTER SYSTEM RESET fsync');
  await server.query('postgres', 'SELECT pg_reload_conf()');
  await server.query('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
  const latin = openStore({ ...options, databaseUrl: server.url('latin') });
  await expect(latin).rejects.toThrow(/LATIN1/);
});

it('commits wait for the disk although the database is set not to', async () => {
  await used();
  await onDatabase(`ALTER DATABASE "${databaseOf(directory)}" SET synchronous_commit = off`);
  const limits = { poolSize: 1, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000, maxAgeSeconds: 0 };
  const pool = new Pool(addressOf(server.url(databaseOf(directory))), limits);
  const { rows } = await pool.use((connection) => connection.query('SHOW synchronous_commit'));
  expect(rows).toEqual([{ synchronous_commit: 'on' }]);
  await pool.end();
});

it('a number that JavaScript cannot hold is an error, never another number', async () => {
  const store = await open(directory);
  await create(store, 's', { wakeAt: 5 });
  await onDatabase("UPDATE streams SET wake_at = 9007199254740993 WHERE stream = 's'");
  await expect(store.nextWakeAt()).rejects.toThrow('no safe integer');
  await onDatabase("UPDATE streams SET wake_at = 9007199254740991 WHERE stream = 's'");
  expect(await store.nextWakeAt()).toBe(Number.MAX_SAFE_INTEGER);
  await store.close();
});

it('a payload moved to another event does not open, and is an error, never a wrong answer', async () => {
  const store = await open(directory);
  await create(store, 's', { events: [draft({ public: { n: 1 } }), draft({ public: { n: 2 } })] });
  await onDatabase('UPDATE events SET public = (SELECT public FROM events WHERE seq = 1) WHERE seq = 2');
  await expect(store.read('s', 1, 1)).rejects.toThrow();
  expect((await store.read('s', 0, 1))[0]?.public).toEqual({ n: 1 });
  await store.close();
});

it('a server that is not there, or does not know the database, is unavailable, and the message has no password', async () => {
  const options = await empty();
  const urls = ['postgres://me:hunter2@127.0.0.1:1/x', server.url('no_such_database')];
  for (const databaseUrl of urls) {
    const opening = openStore({ ...options, databaseUrl });
    await expect(opening).rejects.toMatchObject({ name: 'StoreUnavailable' });
    await expect(opening).rejects.not.toThrow(/hunter2/);
  }
});

it('an embedded server never loads the driver', () => {
  const script = `
    import { createRequire } from 'node:module';
    const { openStore } = await import(${JSON.stringify(new URL('../open.ts', import.meta.url).href)});
    const store = await openStore({ directory: ${JSON.stringify(path.join(directory, 'embedded'))},
      summarizeModule: new URL(${JSON.stringify(summarizeModule.href)}) });
    await store.close();
    const { cache } = createRequire(import.meta.url);
    const isLoaded = () => Object.keys(cache).some((file) => file.includes('/pg/'));
    const before = isLoaded();
    await import(${JSON.stringify(new URL('./engine.ts', import.meta.url).href)});
    console.log(JSON.stringify([before, isLoaded()]));`;
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  // The second says that the first would have found it.
  expect(JSON.parse(said)).toEqual([false, true]);
});

describe('a database URL', () => {
  const tls = (url: string) => addressOf(url).ssl;

  it('speaks in clear only to this machine, unless it says so itself', () => {
    expect(tls('postgres://u@localhost/db')).toBe(false);
    expect(tls('postgres://u@127.0.0.1/db')).toBe(false);
    expect(tls('postgres://u@/db?host=/run/postgresql')).toBe(false);
    expect(tls('postgres://u@db.example.com/db?sslmode=disable')).toBe(false);
    const verified = { rejectUnauthorized: true, servername: 'db.example.com' };
    expect(tls('postgres://u@db.example.com/db')).toEqual(verified);
    expect(tls('postgres://u@db.example.com/db?sslmode=require')).toEqual(verified);
    expect(tls('postgres://u@db.example.com/db?sslmode=no-verify')).toEqual({ rejectUnauthorized: false });
  });

  it('that may fall back to clear text, or is no URL of Postgres, is refused without repeating the password', () => {
    const refused = [
      'postgres://u:hunter2@h/db?sslmode=prefer',
      'postgres://u:hunter2@h/db?sslmode=allow',
      'mysql://u:hunter2@h/db',
      'u:hunter2@h',
    ];
    for (const url of refused) {
      expect(() => addressOf(url)).toThrow(expect.objectContaining({ name: 'DatabaseUrlRefused' }));
      expect(() => addressOf(url)).not.toThrow(/hunter2/);
    }
  });

  it('gives its parts as they were meant', () => {
    const { ssl: _, ...parts } = addressOf('postgresql://us%40er:p%2Fw@[::1]:6432/my%20db');
    expect(parts).toEqual({ host: '::1', port: 6_432, user: 'us@er', password: 'p/w', database: 'my db' });
    expect(addressOf('postgres://u@/db?host=/run/postgresql&port=7')).toMatchObject({
      host: '/run/postgresql',
      port: 7,
      database: 'db',
    });
  });

  it('reaches a server through its socket', async () => {
    const options = await empty();
    const databaseUrl = `postgres://scriptorium@/${databaseOf(directory)}?host=${server.directory}&port=${server.port}`;
    const store = await openPostgresStore({ ...options, databaseUrl });
    await create(store, 's');
    await store.close();
  });
});

describe('TLS', () => {
  let secure: PostgresServer;
  let files: string;
  beforeAll(async () => {
    files = await mkdtemp(path.join(tmpdir(), 'scriptorium-tls-'));
    for (const name of ['server', 'other']) {
      const [key, certificate] = [path.join(files, `${name}.key`), path.join(files, `${name}.crt`)];
      const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
      const what = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
      execFileSync('openssl', [...what, '-days', '2', ...subject, '-keyout', key, '-out', certificate], {
        stdio: 'ignore',
      });
    }
    const key = await readFile(path.join(files, 'server.key'));
    const certificate = await readFile(path.join(files, 'server.crt'));
    secure = await PostgresServer.start({ tls: { key, certificate } });
  });
  afterAll(async () => {
    await secure.stop();
    await rm(files, { recursive: true, force: true });
  });

  async function openWith(query: string, host = 'localhost') {
    const masterKeyFile = path.join(directory, 'fleet.key');
    await writeFile(masterKeyFile, Buffer.alloc(32, 1));
    const databaseUrl = `${secure.url('postgres', { host, port: secure.port })}?${query}`;
    return openPostgresStore({ databaseUrl, masterKeyFile, summarizeModule });
  }

  it('with the right authority and name is used, on every connection', async () => {
    const store = await openWith(`sslmode=verify-full&sslrootcert=${files}/server.crt`);
    const member = await store.join();
    await create(store, 's');
    okOf(await store.append(appendOf('s')));
    const rows = await secure.query<{ ssl: boolean }>(
      'postgres',
      "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'scriptorium%'",
    );
    expect(rows.length).toBeGreaterThan(1);
    expect(rows.every(({ ssl }) => ssl)).toBe(true);
    await member.leave();
    await store.close();
  });

  it('of a server that another authority, or nobody, vouches for is refused', async () => {
    const others = `sslmode=verify-full&sslrootcert=${files}/other.crt`;
    for (const query of [others, 'sslmode=require']) {
      await expect(openWith(query)).rejects.toMatchObject({ name: 'StoreUnavailable' });
    }
  });

  it('of a server with another name is refused, unless the URL asks for its authority only', async () => {
    const authority = `sslrootcert=${files}/server.crt`;
    await expect(openWith(`sslmode=verify-full&${authority}`, '127.0.0.1')).rejects.toMatchObject({
      name: 'StoreUnavailable',
    });
    await (await openWith(`sslmode=verify-ca&${authority}`, '127.0.0.1')).close();
    const others = `sslmode=verify-ca&sslrootcert=${files}/other.crt`;
    await expect(openWith(others, '127.0.0.1')).rejects.toMatchObject({ name: 'StoreUnavailable' });
  });
});
