/**
 * Why a store does not open. Each is a condition an operator can act on, so each says what to do about it. They cross
 * the worker boundary as plain values (`Refusal`) and become errors in the caller's thread.
 */
export type Refusal =
  | { kind: 'locked'; directory: string; pid: number | null }
  | { kind: 'schema_too_new'; revision: number; supported: number }
  | { kind: 'master_key_missing'; path: string }
  | { kind: 'master_key_wrong'; path: string }
  | { kind: 'server_unfit'; reason: string };

/** Another process owns the directory. */
export class StoreLocked extends Error {
  override name = 'StoreLocked';
  readonly directory: string;
  readonly pid: number | null;

  constructor(directory: string, pid: number | null) {
    const who = pid === null ? 'another process' : `process ${pid}`;
    super(`the store in ${directory} is in use by ${who}; stop that one first`);
    this.directory = directory;
    this.pid = pid;
  }
}

/** A newer release changed the database in a way this one would misread. */
export class SchemaTooNew extends Error {
  override name = 'SchemaTooNew';

  constructor(revision: number, supported: number) {
    super(
      `the database has breaking schema revision ${revision}, this release knows up to ${supported}; run a newer release`,
    );
  }
}

/** The master key is gone or is another one: starting anyway would make every sealed log unreadable for good. */
export class MasterKeyRefused extends Error {
  override name = 'MasterKeyRefused';
}

/** A database server that cannot keep our promises. */
export class DatabaseRefused extends Error {
  override name = 'DatabaseRefused';
}

export function refusalError(refusal: Refusal): Error {
  switch (refusal.kind) {
    case 'locked':
      return new StoreLocked(refusal.directory, refusal.pid);
    case 'schema_too_new':
      return new SchemaTooNew(refusal.revision, refusal.supported);
    case 'master_key_missing':
      return new MasterKeyRefused(
        `the logs of this database are sealed and ${refusal.path} is missing; restore it from the backup`,
      );
    case 'master_key_wrong':
      return new MasterKeyRefused(
        `${refusal.path} is not the key that sealed this database; restore the right one`,
      );
    case 'server_unfit':
      return new DatabaseRefused(refusal.reason);
  }
}
