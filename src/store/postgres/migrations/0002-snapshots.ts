/** Revision 2: folded states of long logs, one a stream. A cache; a release that does not know it loses nothing. */
export const sql = `
CREATE TABLE snapshots (
  organization text COLLATE "C" NOT NULL,
  project text COLLATE "C" NOT NULL,
  stream text COLLATE "C" PRIMARY KEY,
  seq int8 NOT NULL,
  reader int8 NOT NULL,
  data bytea NOT NULL
);
ALTER TABLE snapshots ALTER COLUMN data SET STORAGE EXTERNAL;
`;
