/** Which of SQLite's errors say "not now" (L8) and which say "this is a bug". */

/** Primary result codes, see sqlite.org/rescode.html. */
export const sqliteCodes = {
  busy: 5,
  locked: 6,
  noMemory: 7,
  readOnly: 8,
  ioError: 10,
  corrupt: 11,
  full: 13,
  cannotOpen: 14,
  protocol: 15,
  notADatabase: 26,
} as const;

const unavailable = new Set<number>(Object.values(sqliteCodes));

/** The primary code of an error thrown by node:sqlite, or null for any other error. */
export function primaryCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null;
  return error.errcode & 0xff;
}

/** A failure in words that can cross the worker boundary. */
export type Failure = { kind: 'unavailable' | 'bug'; message: string };

export function failureOf(error: unknown): Failure {
  const code = primaryCode(error);
  const message = error instanceof Error ? error.message : String(error);
  if (code !== null && unavailable.has(code)) {
    return { kind: 'unavailable', message: `the database cannot be written or read now: ${message}` };
  }
  return { kind: 'bug', message: error instanceof Error ? (error.stack ?? message) : message };
}
