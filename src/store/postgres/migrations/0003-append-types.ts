/**
 * Revision 3: what one append hands over, as two types, so that it travels as two parameters instead of thirty. Their
 * members are what a release sends: a type is never changed, only followed by another one.
 */
export const sql = `
CREATE TYPE stream_write AS (
  stream text COLLATE "C",
  base_head int8,
  fence int8,
  head int8,
  time_ms int8,
  wake_at int8,
  kind text COLLATE "C",
  agent_id text COLLATE "C",
  status text COLLATE "C",
  archived_at text COLLATE "C",
  summary bytea
);
CREATE TYPE event_write AS (
  stream text COLLATE "C",
  seq int8,
  id text COLLATE "C",
  type text COLLATE "C",
  schema_version int8,
  time text COLLATE "C",
  actor text COLLATE "C",
  thread text COLLATE "C",
  turn text COLLATE "C",
  call text COLLATE "C",
  causation text COLLATE "C",
  fence int8,
  audience text COLLATE "C",
  public_commitment bytea,
  private_commitment bytea,
  leaf_hash bytea,
  public bytea,
  private bytea
);
`;
