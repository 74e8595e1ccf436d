/**
 * Revision 1. Rowid tables throughout: WITHOUT ROWID spills rows of about a kilobyte to overflow pages and halves the
 * append rate. Clear columns are what filters, order and proofs need; content is in sealed blobs.
 */
export const sql = `
CREATE TABLE streams (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL UNIQUE,
  head INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  owner TEXT,
  wake_at INTEGER,
  created_at TEXT NOT NULL,
  last_time_ms INTEGER NOT NULL,
  least_reader INTEGER NOT NULL,
  erased_at TEXT,
  kind TEXT,
  agent_id TEXT,
  status TEXT,
  archived_at TEXT,
  summary BLOB
);
CREATE INDEX streams_listed ON streams (organization, project, kind, created_at, stream) WHERE erased_at IS NULL;
CREATE INDEX streams_waking ON streams (wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL;
CREATE INDEX streams_owned ON streams (owner) WHERE owner IS NOT NULL;

CREATE TABLE stream_keys (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL UNIQUE,
  wrapped BLOB NOT NULL
);

CREATE TABLE events (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  type TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  time TEXT NOT NULL,
  actor TEXT NOT NULL,
  thread TEXT,
  turn TEXT,
  call TEXT,
  causation TEXT,
  fence INTEGER,
  audience TEXT NOT NULL,
  public_commitment BLOB NOT NULL,
  private_commitment BLOB,
  leaf_hash BLOB NOT NULL,
  public BLOB,
  private BLOB,
  UNIQUE (stream, seq),
  UNIQUE (stream, id)
);

CREATE TABLE requests (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL,
  key TEXT NOT NULL,
  hash TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  head INTEGER NOT NULL,
  UNIQUE (stream, key)
);

CREATE TABLE resources (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  version INTEGER NOT NULL,
  is_newest INTEGER NOT NULL,
  body TEXT NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  archived_at TEXT,
  unique_name TEXT,
  UNIQUE (organization, project, kind, id, version)
);
CREATE INDEX resources_listed ON resources (organization, project, kind, created_at, id) WHERE is_newest = 1;
CREATE UNIQUE INDEX resources_named ON resources (kind, unique_name, organization, project)
  WHERE is_newest = 1 AND archived_at IS NULL AND unique_name IS NOT NULL;

CREATE TABLE reservations (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  amount_micros INTEGER,
  reserved_at TEXT NOT NULL,
  settled_at TEXT,
  cost_micros INTEGER
);

CREATE TABLE outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL,
  id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  body TEXT NOT NULL
);
`;
