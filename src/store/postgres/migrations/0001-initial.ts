/**
 * Revision 1: the tables of the SQLite engine, and what a fleet needs beside them (`workers`, `deployment`).
 *
 * Text is compared by its bytes (COLLATE "C"), as SQLite does: keyset pages must not depend on a server's locale.
 * `streams` leaves room in its pages, so that the update of each append stays in its page and touches no index.
 * `events.transaction_id` is what finds commits that nobody was notified of: positions say nothing about the order of
 * commits, snapshots do.
 */
export const sql = `
CREATE TABLE streams (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" PRIMARY KEY,
  head int8 NOT NULL,
  fence int8 NOT NULL,
  owner text COLLATE "C",
  wake_at int8,
  created_at text COLLATE "C" NOT NULL,
  last_time_ms int8 NOT NULL,
  least_reader int8 NOT NULL,
  erased_at text COLLATE "C",
  kind text COLLATE "C",
  agent_id text COLLATE "C",
  status text COLLATE "C",
  archived_at text COLLATE "C",
  summary bytea
) WITH (fillfactor = 50);
CREATE INDEX streams_listed ON streams (organization, project, kind, created_at, stream) WHERE erased_at IS NULL;
CREATE INDEX streams_waking ON streams (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX streams_owned ON streams (owner) WHERE owner IS NOT NULL;

CREATE TABLE stream_keys (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" PRIMARY KEY,
  wrapped bytea NOT NULL
);

CREATE TABLE events (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" NOT NULL,
  seq int8 NOT NULL,
  id text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  schema_version int8 NOT NULL,
  time text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  thread text COLLATE "C",
  turn text COLLATE "C",
  call text COLLATE "C",
  causation text COLLATE "C",
  fence int8,
  audience text COLLATE "C" NOT NULL,
  public_commitment bytea NOT NULL,
  private_commitment bytea,
  leaf_hash bytea NOT NULL,
  public bytea,
  private bytea,
  transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
  CONSTRAINT events_placed PRIMARY KEY (stream, seq),
  CONSTRAINT events_named UNIQUE (stream, id)
);
ALTER TABLE events ALTER COLUMN public SET STORAGE EXTERNAL, ALTER COLUMN private SET STORAGE EXTERNAL;
CREATE INDEX events_committed ON events (transaction_id);

CREATE TABLE requests (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  hash text COLLATE "C" NOT NULL,
  first_seq int8 NOT NULL,
  head int8 NOT NULL,
  CONSTRAINT requests_keyed PRIMARY KEY (stream, key)
);

CREATE TABLE resources (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  version int8 NOT NULL,
  is_newest boolean NOT NULL,
  body text NOT NULL,
  created_at text COLLATE "C" NOT NULL,
  updated_at text COLLATE "C" NOT NULL,
  archived_at text COLLATE "C",
  unique_name text COLLATE "C",
  CONSTRAINT resources_versions PRIMARY KEY (organization, project, kind, id, version)
);
CREATE UNIQUE INDEX resources_newest ON resources (organization, project, kind, id) WHERE is_newest;
CREATE INDEX resources_listed ON resources (organization, project, kind, created_at, id) WHERE is_newest;
CREATE UNIQUE INDEX resources_named ON resources (kind, unique_name, organization, project)
  WHERE is_newest AND archived_at IS NULL AND unique_name IS NOT NULL;

CREATE TABLE reservations (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" NOT NULL,
  id text COLLATE "C" PRIMARY KEY,
  amount_micros int8,
  reserved_at text COLLATE "C" NOT NULL,
  settled_at text COLLATE "C",
  cost_micros int8
);

CREATE TABLE outbox (
  number int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL UNIQUE,
  kind text COLLATE "C" NOT NULL,
  body text NOT NULL
);

-- Of the deployment, not of a tenant: one row per process that drives streams, while it lives.
CREATE TABLE workers (
  worker text COLLATE "C" PRIMARY KEY,
  lock_key int4 NOT NULL UNIQUE,
  lease_until timestamptz NOT NULL,
  info text NOT NULL
);

-- One row: something sealed under the master key, by which every process knows that it has the right one.
CREATE TABLE deployment (
  is_only boolean PRIMARY KEY CHECK (is_only),
  key_check bytea NOT NULL
);
`;
