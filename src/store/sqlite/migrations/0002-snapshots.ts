/** Revision 2: folded states of long logs, one a stream. A cache; a release that does not know it loses nothing. */
export const sql = `
CREATE TABLE snapshots (
  organization TEXT NOT NULL,
  project TEXT NOT NULL,
  stream TEXT NOT NULL UNIQUE,
  seq INTEGER NOT NULL,
  reader INTEGER NOT NULL,
  data BLOB NOT NULL
);
`;
