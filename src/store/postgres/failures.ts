/** Which errors say "not now" (L8), which "this is a bug", and after which it is unknown what was committed. */
import pg from 'pg';
import { StoreUnavailable } from '../store.ts';

/** `isUnsure`: the statement may have been committed although its reply is an error, or never came. */
export type Failure = { kind: 'unavailable' | 'bug'; message: string; isUnsure: boolean };

/** See postgresql.org/docs/current/errcodes-appendix.html. */
export const sqlStates = {
  uniqueViolation: '23505',
  serializationFailure: '40001',
  deadlock: '40P01',
  queryCanceled: '57014',
  readOnly: '25006',
  idleInTransaction: '25P03',
  lockNotAvailable: '55P03',
  noSuchDatabase: '3D000',
} as const;

const unavailableStates = new Set<string>([
  sqlStates.serializationFailure,
  sqlStates.deadlock,
  sqlStates.queryCanceled,
  // A standby after a failover: another server will take it.
  sqlStates.readOnly,
  sqlStates.idleInTransaction,
  sqlStates.lockNotAvailable,
  sqlStates.noSuchDatabase,
]);
/** Connection, login, resources (disk, memory, connections), operator, system, corruption. */
const unavailableClasses = new Set(['08', '28', '53', '57', '58', 'XX']);

export function sqlStateOf(error: unknown): string | null {
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}

export function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof StoreUnavailable) return { kind: 'unavailable', message, isUnsure: false };
  const said = `the database cannot be written or read now: ${message}`;
  if (error instanceof pg.DatabaseError) {
    const state = error.code ?? '';
    // ERROR says the statement was rolled back; FATAL and PANIC end the connection wherever it was.
    const isUnsure = error.severity !== 'ERROR';
    if (isUnsure || unavailableStates.has(state) || unavailableClasses.has(state.slice(0, 2))) {
      return { kind: 'unavailable', message: said, isUnsure };
    }
  } else if (isFull(error)) {
    return { kind: 'unavailable', message: said, isUnsure: false };
  } else if (isOfConnection(error)) {
    return { kind: 'unavailable', message: said, isUnsure: true };
  }
  return {
    kind: 'bug',
    message: error instanceof Error ? (error.stack ?? message) : message,
    isUnsure: false,
  };
}

/** A failpoint's full disk: refused before anything was sent, as the server's own (53100) is. No socket says this. */
function isFull(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOSPC';
}

/** What the driver and the sockets say; the driver has no classes for it. */
function isOfConnection(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (
    'syscall' in error ||
    ('code' in error && /^(E[A-Z]+|ERR_(SSL|TLS|STREAM|SOCKET)_)/.test(String(error.code)))
  ) {
    return true;
  }
  return /^(Connection terminated|Query read timeout|timeout (expired|exceeded)|Client (was closed|has encountered)|Cannot use a pool|The server does not support SSL|Received unexpected|write after end|This socket|Called end|Client network socket)/i.test(
    error.message,
  );
}

export function errorOf(failure: Failure): Error {
  return failure.kind === 'unavailable' ? new StoreUnavailable(failure.message) : new Error(failure.message);
}
