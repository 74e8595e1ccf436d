/**
 * What the host drives: one running sandbox, whatever isolates it. A backend folder exports one `start…` function
 * that returns this, or a Refusal that says what to do (S4).
 */
import type { GatewayNetwork, Limits, Refusal, SandboxInfo } from './executor.ts';
import type { GuestLink } from './guest/link.ts';
import type { LimitCounters } from './limits.ts';

export type OperatorBind = { from: string; to: string; readOnly: boolean };

/** Folders of one session on the host's disk. Only `uploads` is written by the host; it is read-only inside. */
export type SessionFolders = { workspace: string; outputs: string; home: string; uploads: string };

export type StartRequest = {
  /** Short and unique on this machine; names the cgroups. */
  name: string;
  folders: SessionFolders;
  limits: Limits;
  /** The session's own uid, where the host is root. */
  uid: number | null;
  binds: OperatorBind[];
  /**
   * Where `folders` but uploads are: in a mount namespace of the host's (null: the machine's), and whose they are on disk
   * (null: the session's own).
   */
  disk?: { mounts: string | null; owner: number | null };
  /** What is mounted at /opt/env. */
  layer?: { from: string; readOnly: boolean };
  /** Null: no network. `trustFolder` is the host's, for the authorities that the sandbox trusts. */
  network: (GatewayNetwork & { trustFolder: string }) | null;
};

export type RunningSandbox = {
  link: GuestLink;
  info: Omit<SandboxInfo, 'reused' | 'host'>;
  /** How many processes the kernel has killed here for lack of memory, where that is counted. */
  oomKills(): number;
  /** That and what else the kernel counts of limits; absent: only that. */
  counters?(): LimitCounters;
  /** A path of the port as the guest sees it, and back; the same, but without isolation. */
  inside(path: string): string;
  outside(path: string): string;
  /** Variables of every process in it that follow from how it was started. */
  env?: Record<string, string>;
  /** Hands its sockets to the gateway that this ticket is of; only where it has a network. */
  connect?(network: GatewayNetwork): Promise<Refusal | null>;
  /** Stops all that the session runs, where that can be done; the answer lets it go on. */
  freeze?(): (() => void) | Promise<() => void>;
  /** Ends everything in it and settles once nothing is left (S5). */
  stop(): Promise<void>;
};

/** The native programs and system programs a backend needs; null where one is missing. */
export type Programs = {
  guest: string;
  launch: string;
  netprep: string;
  /** A Node add-on that hides the memory of the process that loads it. */
  undumpable: string;
  bwrap: string | null;
  nft: string | null;
  /** gVisor's, of which the distribution's may be too old. */
  runsc: string | null;
  node: string;
};
