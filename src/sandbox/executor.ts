/**
 * The Executor port: what an engine may ask of the hands (DESIGN §7). One implementation speaks JSON-RPC to a host
 * process (`host/client.ts`); a backend folder (`local/`, later `gvisor/`, `kubernetes/`) is what the host drives.
 *
 * Promises kept here
 * - S3: nothing in this port resolves a workspace path outside the sandbox; every path is the sandbox's own.
 * - L5: the host journals a call (id, fence, what) with fsync before anything starts; a call id is used once for ever.
 * - L6: asking again with the same call id never runs it twice; it answers what the journal knows.
 * - A fence lower than the highest the host has seen for a session is refused (`fenced`), durably.
 *
 * Contract: methods return endings as values (`Refusal`) and reject only when the host cannot be reached
 * (`HostUnreachable`) or on a bug. Bytes are bytes; times are milliseconds; sizes are bytes.
 */
import type { Isolation } from '../protocol/isolation.ts';
import type { EffectiveLimit, LimitHit, Limits } from './limits.ts';

export type { EffectiveLimit, LimitHit, Limits } from './limits.ts';

export type Refusal = {
  refused:
    | 'fenced' // an engine with a higher fence owns the session
    | 'no_sandbox' // create it first
    | 'no_layer' // this host has not (any more) the layer that was asked for
    | 'isolation_unavailable' // S4: what was asked cannot be had here; `message` says what to do
    | 'call_mismatch' // the same call id was journalled with other content
    | 'not_found'
    | 'not_a_file'
    | 'not_a_directory'
    | 'permission_denied'
    | 'changed' // an edit's expected content is not what is there
    | 'too_large'
    | 'no_space' // the session's disk, or the host's, is full; nothing half-made is left
    | 'unknown_checkpoint' // no such checkpoint on this host, or it was removed
    | 'bad_archive' // an imported checkpoint that is not one, or holds what none may hold
    | 'io_error';
  message: string;
};

export function isRefusal(value: object): value is Refusal {
  return 'refused' in value;
}

/** Thrown by every method when the host process cannot be reached or the connection broke before the answer. */
export class HostUnreachable extends Error {
  override name = 'HostUnreachable';
}

/** A `HostUnreachable` of a fleet: the host is known by name and was last there so long ago. */
export class HostAway extends HostUnreachable {
  override name = 'HostAway';
  /** Null where none is connected at all. */
  readonly host: string | null;
  readonly awayMs: number;

  constructor(host: string | null, awayMs: number) {
    super(
      host === null
        ? 'no sandbox host is connected'
        : `host ${host}, which has the disk of this session, is not connected`,
    );
    this.host = host;
    this.awayMs = awayMs;
  }
}

/**
 * The way out through a gateway (S2): all TCP and DNS of the sandbox reach its process, which this ticket lets them to.
 * Another ticket for a running sandbox hands it to the gateway that knows it.
 */
export type GatewayNetwork = {
  kind: 'gateway';
  ticket: string;
  /** Of the session's own authority; every program in the sandbox trusts it. */
  authorityPem: string;
};

/** How a host keeps a session's disk and its checkpoints; docs/design/checkpoints.md says what each can do. */
export type DiskDriver = 'btrfs' | 'ext4' | 'reflink' | 'tar';

export type { Isolation };

export type SandboxSpec = {
  session: string;
  fence: number;
  /** `none`: no isolation at all, only with the operator's explicit flag. */
  isolation: Isolation;
  limits: Limits;
  /** The whole environment of every process, besides PATH, HOME, LANG, TERM and TMPDIR, which the host sets. */
  env: Record<string, string>;
  /** Absent: none. */
  network?: { kind: 'none' } | GatewayNetwork;
  /** What stands at /opt/env (image/): a layer, or `build`, an empty writable folder that may become one. Absent: nothing. */
  layer?: 'build' | { digest: string };
  /** Where the session's disk is, once it has one; without it the executor chooses a host. */
  host?: string;
};

/** What really isolates this sandbox; goes into the log as `sandbox.started` (S4: honest about each lack). */
export type SandboxInfo = {
  isolation: Isolation;
  /** What bounds memory and processes: cgroup v2, v1, or only rlimits. */
  limitsBy: 'cgroup2' | 'cgroup1' | 'rlimits';
  /** Whether seccomp, an own uid and a private network are in force. */
  seccomp: boolean;
  ownUid: number | null;
  /** `gateway`: no route out but the gateway's process. `host`: whatever the host has; only without isolation. */
  network: 'none' | 'gateway' | 'host';
  /** True where a sandbox of this session was running already. */
  reused: boolean;
  /** The host that holds its disk, where there can be several. */
  host?: string;
  /** Each limit as it is enforced; absent where a host does not say. */
  limits?: EffectiveLimit[];
  /** What ran into a limit outside any call (background, sleep, lifetime) and was not told yet. Told once. */
  limitHits?: LimitHit[];
  /** Null where nothing bounds the disk; a warning says so if a limit was asked for. */
  disk?: { driver: DiskDriver; limitBytes: number | null };
  /** Why its layer may not be what it was when it was built: what lies below has changed. */
  drift?: string;
  warnings: string[];
};

export type CallRef = { session: string; fence: number; callId: string };

export type StartProcess = CallRef & {
  argv: string[];
  /** Absolute path inside the sandbox. */
  cwd: string;
  env?: Record<string, string>;
  /** stdin content; without it stdin is empty (/dev/null). */
  stdin?: Uint8Array;
  /** Whole tree is killed after this long. */
  timeoutMs: number;
  /** Output beyond this is dropped by the host (and counted in `droppedBytes`), never buffered. */
  maxOutputBytes: number;
  /** stdout and stderr go through one pipe, in the order written. */
  mergeStderr: boolean;
  /** Not the agent's: the session's limits of one call (output, wall time) do not hold for it. */
  isOurs?: boolean;
  /** Answer after the process ended or this long, whichever is first (saves a round trip). */
  waitMs: number;
};

export type OutputChunk = { seq: number; stream: 'stdout' | 'stderr' | 'control'; data: Uint8Array };

export type ProcessState =
  | { state: 'running' }
  | {
      state: 'exited';
      exitCode: number | null;
      signal: string | null;
      /** Why the host ended it, if it did. */
      endedBy: 'timeout' | 'terminate' | 'memory' | 'lifetime' | null;
      durationMs: number;
      /** What ran into a limit while it ran; absent where nothing did. */
      limits?: LimitHit[];
    }
  /** The journal has the start but the process cannot be known any more: its sandbox or host died with it. */
  | { state: 'lost'; reason: string; limits?: LimitHit[] };

export type ProcessRead = {
  chunks: OutputChunk[];
  /** Pass as `afterSeq` of the next read. */
  nextSeq: number;
  /** Bytes dropped because of `maxOutputBytes`. */
  droppedBytes: number;
  process: ProcessState;
};

/** One file to be put, changed or removed. */
export type Edit = {
  path: string;
  /** New content; null removes the file. */
  content: Uint8Array | null;
  /** sha256 (hex) of the content that must be there now; null: the file must not exist; absent: whatever is there. */
  expectSha256?: string | null;
  /** Permission bits for a new file (default 0644); an existing file keeps its own. */
  mode?: number;
};

/** All edits were made, each atomically (temporary file and rename in the sandbox), in order. */
export type EditsDone = {
  files: { path: string; sizeBytes: number; sha256: string | null; existed: boolean }[];
};

export type CallStatus =
  | { kind: 'unknown' } // never dispatched: safe to start
  | { kind: 'process'; process: ProcessState }
  | { kind: 'edits'; state: 'running' }
  | { kind: 'edits'; state: 'done'; outcome: EditsDone | Refusal }
  | { kind: 'edits'; state: 'lost'; reason: string };

export type FileStat = {
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'other';
  sizeBytes: number;
  mtimeMs: number;
  mode: number;
};

export type FileRead = { data: Uint8Array; sizeBytes: number; isWhole: boolean };

/** Names a checkpoint; the engine makes the name up, and uses it once. */
export type CheckpointRef = { session: string; checkpoint: string };

export type Checkpoint = {
  checkpoint: string;
  driver: DiskDriver;
  /** What it takes on the host's disk by itself, where that is known without looking at every file. */
  sizeBytes: number | null;
  /** Files, folders and links in it; null where counting would cost more than the checkpoint. */
  files: number | null;
  tookMs: number;
  madeAtMs: number;
};

/** A piece of an exported checkpoint: one tar stream compressed with zstd, whose first member is its manifest. */
export type CheckpointRead = { data: Uint8Array; sizeBytes: number; isEnd: boolean };

/** `checkpoint` is null until the last piece was taken and found to be whole and harmless. */
export type CheckpointWritten = { receivedBytes: number; checkpoint: Checkpoint | null };

type InSandbox = { session: string; fence: number };

export interface Executor {
  /** Says where a session's disk is, as its log has it, before anything is asked about that session. */
  locate?(session: string, host: string | null): void;

  /** Starts the session's sandbox, or finds it running. Its disk (workspace, outputs, home) outlives it. */
  createSandbox(spec: SandboxSpec): Promise<SandboxInfo | Refusal>;
  /** Kills everything in it; the disk stays unless `removeDisk`. Idempotent. */
  destroySandbox(request: InSandbox & { removeDisk: boolean }): Promise<Record<string, never> | Refusal>;

  startProcess(request: StartProcess): Promise<ProcessRead | Refusal>;
  /** Chunks after `afterSeq`; waits up to `waitMs` for something new or the end. */
  readProcess(
    request: CallRef & { afterSeq: number; maxBytes: number; waitMs: number },
  ): Promise<ProcessRead | Refusal>;
  /** Kills the call's whole process tree, including children that left its process group or session (S5). */
  terminateProcess(request: CallRef): Promise<Record<string, never> | Refusal>;
  callStatus(request: CallRef): Promise<CallStatus | Refusal>;

  readFile(
    request: InSandbox & { path: string; offset?: number; maxBytes: number },
  ): Promise<FileRead | Refusal>;
  stat(request: InSandbox & { path: string }): Promise<FileStat | Refusal>;
  /** All entries below `path`, not following links, without the named directories; at most `maxEntries`. */
  walk(
    request: InSandbox & { path: string; skipDirectories: string[]; maxEntries: number; maxDepth: number },
  ): Promise<{ entries: FileStat[]; isWhole: boolean } | Refusal>;
  applyEdits(request: CallRef & { edits: Edit[] }): Promise<EditsDone | Refusal>;

  /** Puts bytes into a file of /mnt/session/uploads (read-only inside). `offset` 0 starts the file anew. */
  putUpload(
    request: InSandbox & { name: string; offset: number; data: Uint8Array },
  ): Promise<Record<string, never> | Refusal>;

  /**
   * Keeps the whole disk (workspace, outputs, home) as it is at one moment: what runs is held still meanwhile, where
   * that can be done. Needs no running sandbox, but a disk. The same name again answers the same checkpoint.
   */
  checkpoint(request: InSandbox & { checkpoint: string }): Promise<Checkpoint | Refusal>;
  /**
   * Ends the sandbox; the disk becomes what it was. `from.session` may be another session of the same host (a fork), and
   * `session` may have no disk yet. Asking again with the same call id does nothing more; whoever dies in the middle
   * leaves the old disk or the new one, whole. Refusals leave the old one.
   */
  restore(request: CallRef & { from: CheckpointRef }): Promise<Record<string, never> | Refusal>;
  /** Idempotent. Its name stays used. Disks that were restored from it do not need it. */
  removeCheckpoint(request: InSandbox & { checkpoint: string }): Promise<Record<string, never> | Refusal>;
  /** Oldest first. They go with the disk of their session. */
  checkpoints(request: InSandbox): Promise<{ checkpoints: Checkpoint[] } | Refusal>;
  /** Export: bytes from `offset` of one archive, which stays the same for as long as it is being read. */
  readCheckpoint(
    request: InSandbox & { checkpoint: string; offset: number; maxBytes: number },
  ): Promise<CheckpointRead | Refusal>;
  /**
   * Import: the pieces of an archive in order (`offset` 0 starts anew; another offset than what was received is refused
   * with `io_error`). With `isLast` it is checked, and is a checkpoint of the session or nothing at all (`bad_archive`).
   * The session needs no disk yet.
   */
  writeCheckpoint(
    request: InSandbox & { checkpoint: string; offset: number; data: Uint8Array; isLast: boolean },
  ): Promise<CheckpointWritten | Refusal>;
}

/** Where things are inside every sandbox (managed-agents-protocol.md §3). */
export const sandboxPaths = {
  workspace: '/workspace',
  uploads: '/mnt/session/uploads',
  outputs: '/mnt/session/outputs',
  home: '/home/agent',
  ownTools: '/opt/scriptorium/bin',
} as const;
