/** What the doctor says of real servers that are set well and badly, and of what stands in between. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PostgresServer } from '../../../../test/peers/postgres-server.ts';
import { TransactionPooler } from '../../../../test/peers/transaction-pooler.ts';
import { type DatabaseCheck, probeDatabase } from './probe.ts';

let good: PostgresServer;
let bad: PostgresServer;
beforeAll(async () => {
  const settings = {
    fsync: 'off',
    full_page_writes: 'off',
    synchronous_commit: 'off',
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_connections: '15',
    idle_session_timeout: '60000',
    tcp_keepalives_idle: '7200',
  };
  const kept = { tcp_keepalives_idle: '10', tcp_keepalives_interval: '5', tcp_keepalives_count: '3' };
  [good, bad] = await Promise.all([
    PostgresServer.start({ settings: kept }),
    PostgresServer.start({ settings }),
  ]);
}, 60_000);
afterAll(async () => {
  await Promise.all([good?.stop(), bad?.stop()]);
});

const lacks = (checks: DatabaseCheck[]) =>
  checks.filter(({ ok }) => !ok).map(({ check, required }) => (required ? `${check}!` : check));

it('a server that is set as we need it lacks nothing but a standby', async () => {
  const checks = await probeDatabase(good.url('postgres'));
  expect(lacks(checks)).toEqual(['database standby']);
  expect(checks.filter(({ ok, remedy }) => ok !== (remedy === null))).toEqual([]);
});

it('a server that is set against our promises is told of each, with what to do', async () => {
  const checks = await probeDatabase(bad.url('postgres'));
  expect(lacks(checks)).toEqual([
    'database fsync!',
    'database page writes!',
    'database commits',
    'database standby',
    'database connections',
    'database idle sessions!',
    'database keepalives',
  ]);
  for (const { ok, remedy } of checks) if (!ok) expect(remedy).toMatch(/\w{3}/);
});

it('a role that may make no tables, and may have few connections, is told of', async () => {
  await good.query('postgres', 'CREATE ROLE poor LOGIN CONNECTION LIMIT 12');
  await good.query('postgres', 'REVOKE CREATE ON SCHEMA public FROM PUBLIC');
  const checks = await probeDatabase(good.url('postgres').replace('//scriptorium@', '//poor@'));
  expect(lacks(checks)).toEqual(['database rights!', 'database standby', 'database connections']);
});

it('a database of another encoding is told of', async () => {
  await good.query('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'");
  expect(lacks(await probeDatabase(good.url('latin')))).toContain('database encoding!');
});

it('a pooler that deals sessions out by the transaction is found out', async () => {
  const pooler = await TransactionPooler.start(good.port);
  try {
    const checks = await probeDatabase(good.url('postgres', { host: '127.0.0.1', port: pooler.port }));
    expect(lacks(checks)).toContain('database sessions!');
    expect(checks.find(({ check }) => check === 'database sessions')?.found).toContain('by the transaction');
  } finally {
    await pooler.stop();
  }
});

it('a clock that is five minutes off is told of, in the right direction', async () => {
  const checks = await probeDatabase(good.url('postgres'), () => Date.now() + 300_000);
  const clock = checks.find(({ check }) => check === 'database clock');
  expect(clock).toMatchObject({
    ok: false,
    found: expect.stringMatching(/^(299|300|301)\d{3} ms behind ours$/),
  });
});

it('a server that is not there, and a URL that is none, are checks that failed and never show the password', async () => {
  for (const url of ['postgres://me:hidden@127.0.0.1:1/db', 'mysql://me:hidden@h/db', 'hidden']) {
    const checks = await probeDatabase(url);
    expect(lacks(checks)).toEqual(['database!']);
    expect(JSON.stringify(checks)).not.toContain('hidden');
  }
});

it('a server spoken to in clear text, or without knowing who it is, is told of', async () => {
  const files = await mkdtemp(path.join(tmpdir(), 'scriptorium-tls-'));
  const [key, certificate] = [path.join(files, 'server.key'), path.join(files, 'server.crt')];
  const subject = [
    '-subj',
    '/CN=localhost',
    '-addext',
    'subjectAltName=DNS:localhost',
    '-days',
    '2',
    '-nodes',
  ];
  const kind = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  execFileSync('openssl', [...kind, ...subject, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
  const tls = { key: await readFile(key), certificate: await readFile(certificate) };
  const secure = await PostgresServer.start({ tls });
  try {
    const tlsOf = async (host: string, query: string) => {
      const url = `${secure.url('postgres', { host, port: secure.port })}?${query}`;
      return (await probeDatabase(url)).find(({ check }) => check === 'database TLS');
    };
    // No loopback address by its looks, and it leads here all the same.
    expect(await tlsOf('0.0.0.0', 'sslmode=disable')).toMatchObject({ ok: false, required: false });
    expect(await tlsOf('0.0.0.0', 'sslmode=no-verify')).toMatchObject({ ok: false });
    const authority = `sslrootcert=${certificate}`;
    expect(await tlsOf('0.0.0.0', `sslmode=verify-ca&${authority}`)).toMatchObject({
      ok: true,
      found: expect.stringContaining('its name is not'),
    });
    expect(await tlsOf('localhost', `sslmode=verify-full&${authority}`)).toMatchObject({ ok: true });
  } finally {
    await secure.stop();
    await rm(files, { recursive: true, force: true });
  }
});
