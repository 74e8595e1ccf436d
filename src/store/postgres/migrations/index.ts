/** The schema's history, append-only: a released revision is never edited, only followed by another. */
import { sql as initial } from './0001-initial.ts';
import { sql as snapshots } from './0002-snapshots.ts';
import { sql as appendTypes } from './0003-append-types.ts';

export type Migration = {
  revision: number;
  name: string;
  /** True where an older release would misread or damage what this revision makes. */
  breaking: boolean;
  sql: string;
};

export const migrations: readonly Migration[] = [
  { revision: 1, name: 'initial', breaking: true, sql: initial },
  { revision: 2, name: 'snapshots', breaking: false, sql: snapshots },
  { revision: 3, name: 'append-types', breaking: false, sql: appendTypes },
];
