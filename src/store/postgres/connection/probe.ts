/**
 * What a Postgres server can keep of our promises, for `scriptorium doctor --database-url`. It looks at how the server is set
 * and tries what settings do not tell: a pooler in between, a clock of another time. Nothing is changed, no schema is needed.
 *
 * L2 rests on `fsync`, `full_page_writes` and on what a standby has when it is promoted; L3 and liveness on locks and LISTEN,
 * which belong to a session of the server and are lost behind a pooler that deals them out by the transaction.
 */
import pg from 'pg';
import { type Address, addressOf } from './address.ts';

export type DatabaseCheck = {
  check: string;
  ok: boolean;
  /** What there is, in a few words. Never the URL: it has a password in it. */
  found: string;
  /** What to do about it; null when there is nothing to do. */
  remedy: string | null;
  /** Without it a server refuses to start, or breaks a promise. */
  required: boolean;
};

/** Connections of one process: 8 for work, one for its liveness, one to hear of appends. */
const connectionsPerProcess = 10;
/** An api and two engines: less is no fleet. */
const leastProcesses = 3;
const connectTimeoutMs = 5_000;
const statementTimeoutMs = 5_000;
const clockToleranceMs = 2_000;
const keepaliveToleranceS = 120;

type Settings = {
  version: number;
  versionText: string;
  encoding: string;
  isStandby: boolean;
  mayCreate: boolean;
  fsync: string;
  fullPageWrites: string;
  synchronousCommit: string;
  walLevel: string;
  synchronousStandbys: string;
  streaming: number;
  inStep: number;
  connectionLimit: number;
  connectionsUsed: number;
  idleSessionTimeout: string;
  keepaliveS: number | null;
  tlsVersion: string | null;
};

const settingsQuery = `SELECT
  current_setting('server_version_num')::int AS version,
  current_setting('server_version') AS "versionText",
  current_setting('server_encoding') AS encoding,
  pg_is_in_recovery() AS "isStandby",
  has_database_privilege(current_database(), 'CREATE')
    OR coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS "mayCreate",
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS "fullPageWrites",
  current_setting('synchronous_commit') AS "synchronousCommit",
  current_setting('wal_level') AS "walLevel",
  current_setting('synchronous_standby_names') AS "synchronousStandbys",
  (SELECT count(*)::int FROM pg_stat_replication) AS streaming,
  (SELECT count(*)::int FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS "inStep",
  (SELECT min(most)::int FROM (VALUES
    (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int),
    ((SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())),
    ((SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))) AS limits(most)) AS "connectionLimit",
  (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database) AS "connectionsUsed",
  coalesce(current_setting('idle_session_timeout', true), '0') AS "idleSessionTimeout",
  CASE WHEN inet_server_addr() IS NULL THEN NULL ELSE (SELECT sum(CASE name
      WHEN 'tcp_keepalives_idle' THEN setting::int
      ELSE setting::int * current_setting('tcp_keepalives_count')::int END)
    FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval'))::int END AS "keepaliveS",
  (SELECT CASE WHEN ssl THEN version END FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS "tlsVersion"`;

/** Never rejects: what cannot be reached is a check that failed. */
export async function probeDatabase(
  databaseUrl: string,
  nowMs: () => number = Date.now,
): Promise<DatabaseCheck[]> {
  const clients: pg.Client[] = [];
  try {
    const address = addressOf(databaseUrl);
    const connect = async (): Promise<pg.Client> => {
      const client = new pg.Client({
        ...address,
        application_name: 'scriptorium doctor',
        connectionTimeoutMillis: connectTimeoutMs,
        query_timeout: statementTimeoutMs,
      });
      client.on('error', () => undefined);
      clients.push(client);
      await client.connect();
      return client;
    };
    const one = await connect();
    const [settings] = (await one.query<Settings>(settingsQuery)).rows;
    if (settings === undefined) throw new Error('the server answers nothing');
    return [
      {
        check: 'database',
        ok: true,
        found: `Postgres ${settings.versionText} answers`,
        remedy: null,
        required: true,
      },
      ...fitness(settings),
      await sessionCheck(one, await connect()),
      await startCheck(address),
      ...durability(settings),
      ...connections(settings),
      await clockCheck(one, nowMs),
      transportCheck(address, settings.tlsVersion),
    ];
  } catch (error) {
    const found = `cannot be asked: ${error instanceof Error ? error.message : String(error)}`;
    const remedy = 'Start it, open the way to it, and check user and password in the URL.';
    return [{ check: 'database', ok: false, found, remedy, required: true }];
  } finally {
    for (const client of clients) void client.end().catch(() => undefined);
  }
}

function judged(required: boolean, check: string, ok: boolean, found: string, remedy: string): DatabaseCheck {
  return { check, ok, found, remedy: ok ? null : remedy, required };
}

function fitness(settings: Settings): DatabaseCheck[] {
  const { version, versionText, encoding, isStandby, mayCreate } = settings;
  const role = isStandby ? 'a standby' : 'the primary';
  return [
    judged(true, 'database version', version >= 140_000, versionText, 'Use Postgres 14 or newer.'),
    judged(
      true,
      'database encoding',
      encoding === 'UTF8',
      encoding,
      "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
    ),
    judged(
      true,
      'database primary',
      !isStandby,
      role,
      'Name the primary in the URL: a standby takes no appends.',
    ),
    judged(
      true,
      'database rights',
      mayCreate,
      mayCreate ? 'may make its tables' : 'may make no tables',
      'GRANT CREATE on the database or its schema to the role, or make the role its owner.',
    ),
  ];
}

function durability(settings: Settings): DatabaseCheck[] {
  const { fsync, fullPageWrites, synchronousCommit, walLevel, synchronousStandbys, streaming, inStep } =
    settings;
  const waits = ['on', 'remote_apply'].includes(synchronousCommit);
  const standbys =
    synchronousStandbys === ''
      ? `wal_level ${walLevel}, ${streaming} standbys, none that a commit waits for`
      : `commits wait for ${synchronousStandbys}; ${inStep} in step`;
  return [
    judged(
      true,
      'database fsync',
      fsync === 'on',
      fsync,
      'Set fsync = on: without it a power cut loses what was acknowledged, or all.',
    ),
    judged(
      true,
      'database page writes',
      fullPageWrites === 'on',
      `full_page_writes ${fullPageWrites}`,
      'Set full_page_writes = on: without it a power cut tears pages that no log can mend.',
    ),
    judged(
      false,
      'database commits',
      waits,
      `synchronous_commit ${synchronousCommit}`,
      'Set synchronous_commit = on. Our connections do so themselves; other clients of this server do not.',
    ),
    judged(
      false,
      'database standby',
      synchronousStandbys !== '' && inStep > 0,
      standbys,
      'Acknowledged inputs are on this one machine. A standby that is to be promoted has to be a synchronous one: wal_level = replica, synchronous_standby_names, synchronous_commit = on. Never promote another.',
    ),
  ];
}

function connections(settings: Settings): DatabaseCheck[] {
  const { connectionLimit, connectionsUsed, idleSessionTimeout, keepaliveS } = settings;
  const processes = Math.max(0, Math.floor((connectionLimit - connectionsUsed) / connectionsPerProcess));
  const idle = idleSessionTimeout === '0';
  return [
    judged(
      false,
      'database connections',
      processes >= leastProcesses,
      `${connectionLimit}, ${connectionsUsed} in use: room for ${processes} processes of ours at ${connectionsPerProcess} each`,
      `Raise max_connections (or the limit of the role or database) to ${connectionsPerProcess} for each process, and some for people.`,
    ),
    judged(
      true,
      'database idle sessions',
      idle,
      idle ? 'are kept' : `are ended after ${idleSessionTimeout}`,
      'ALTER ROLE … SET idle_session_timeout = 0: the connection on which appends are heard of is idle by nature.',
    ),
    judged(
      false,
      'database keepalives',
      keepaliveS === null || (keepaliveS > 0 && keepaliveS <= keepaliveToleranceS),
      keepaliveS === null
        ? 'not needed on a socket of this machine'
        : `a peer that vanished is noticed after ${keepaliveS} s`,
      'Set tcp_keepalives_idle = 10, tcp_keepalives_interval = 5, tcp_keepalives_count = 3: else connections of machines that died fill the server. (Transactions left open are ended by idle_in_transaction_session_timeout, which our connections set to 10 s.)',
    ),
  ];
}

/**
 * Who deals server sessions out by the transaction gives the first client's to the second while the second is in one; then the
 * first gets another. Who deals them out by the connection is known by the process id it invents in its greeting.
 */
async function sessionCheck(one: pg.Client, other: pg.Client): Promise<DatabaseCheck> {
  const before = await backendOf(one);
  await other.query('BEGIN');
  const inside = await backendOf(other);
  const after = await backendOf(one);
  await other.query('ROLLBACK');
  const isShared = before !== after || inside === before;
  const greeted: unknown = Reflect.get(one, 'processID');
  const isBetween = isShared || greeted !== after;
  const found = isShared
    ? 'a pooler deals out sessions by the transaction'
    : isBetween
      ? 'something between us gives each connection a session'
      : 'each connection has one of its own';
  const remedy = isShared
    ? 'Connect to the server itself, or through a pool in session mode: locks, LISTEN and prepared statements belong to a session.'
    : 'A pool in session mode works, but adds a hop and holds back the news that a process died; connect to the server itself.';
  return judged(isShared, 'database sessions', !isBetween, found, remedy);
}

async function backendOf(client: pg.Client): Promise<number | undefined> {
  return (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid;
}

/** As our connections begin: some poolers refuse settings in the greeting. */
async function startCheck(address: Address): Promise<DatabaseCheck> {
  const client = new pg.Client({
    ...address,
    options: '-c synchronous_commit=on',
    connectionTimeoutMillis: connectTimeoutMs,
  });
  client.on('error', () => undefined);
  const remedy =
    'Connect to the server itself: what stands between refuses the settings by which our connections wait for the disk.';
  try {
    await client.connect();
    const [row] = (await client.query<{ is: string }>("SELECT current_setting('synchronous_commit') AS is"))
      .rows;
    return judged(
      true,
      'database settings',
      row?.is === 'on',
      `a connection that asks for synchronous_commit on has ${row?.is}`,
      remedy,
    );
  } catch (error) {
    return judged(
      true,
      'database settings',
      false,
      error instanceof Error ? error.message : String(error),
      remedy,
    );
  } finally {
    void client.end().catch(() => undefined);
  }
}

async function clockCheck(client: pg.Client, nowMs: () => number): Promise<DatabaseCheck> {
  const askedMs = nowMs();
  const [row] = (
    await client.query<{ ms: number }>('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms')
  ).rows;
  const aheadMs = Math.round(Number(row?.ms) - (askedMs + nowMs()) / 2);
  const isClose = Math.abs(aheadMs) <= clockToleranceMs;
  const found = isClose
    ? `within ${clockToleranceMs / 1000} s of ours`
    : `${Math.abs(aheadMs)} ms ${aheadMs > 0 ? 'ahead of' : 'behind'} ours`;
  return judged(
    false,
    'database clock',
    isClose,
    found,
    'Run NTP on both: timers fire early or late by as much as clocks differ.',
  );
}

function transportCheck({ host, ssl }: Address, tlsVersion: string | null): DatabaseCheck {
  const isLocal = host.startsWith('/') || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
  if (isLocal && tlsVersion === null)
    return judged(false, 'database TLS', true, 'not needed on this machine', '');
  const isVerified = ssl !== false && ssl.rejectUnauthorized === true;
  const found =
    tlsVersion === null
      ? 'none: what we write can be read and changed on the way'
      : `${tlsVersion}; ${verifiedOf(ssl)}`;
  return judged(
    false,
    'database TLS',
    tlsVersion !== null && isVerified,
    found,
    'Use sslmode=verify-full, with sslrootcert where its authority is your own.',
  );
}

function verifiedOf(ssl: Address['ssl']): string {
  if (ssl === false || ssl.rejectUnauthorized !== true)
    return 'to whoever answers: nothing of the server is verified';
  return ssl.checkServerIdentity === undefined
    ? "the server's name and authority are verified"
    : "the server's authority is verified, its name is not";
}
