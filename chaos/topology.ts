/**
 * The processes under attack, whatever they are: what a run needs to know of them. `up` is one server with its host
 * (up-topology.ts); a fleet is several of each kind on one Postgres (fleet-topology.ts).
 */
import type { Store } from '../src/store/store.ts';

export type Role = 'server' | 'host' | 'database';

export type Death = {
  role: Role;
  /** Wall clock and monotonic. */
  atMs: number;
  monotonicMs: number;
  /** `kill` and `failpoint:<name>` are ours; anything else nobody wanted. */
  cause: string;
  /** Of a host in a fleet: its id there. */
  host?: string;
};

/** The wires between servers and something that they need; `choice` picks the server. */
export type Wires = {
  /** One connection of one server: the one that says that it lives, or another. */
  cutOne(choice: number): void;
  cut(choice: number): void;
  /** Nothing comes through, and nobody is told. */
  partition(choice: number, ms: number): void;
  /** In one direction all is swallowed, then the connections break. */
  lose(choice: number, ms: number, what: 'requests' | 'replies'): void;
  delay(choice: number, ms: number, byMs: number): void;
};

export interface Topology {
  /** Starts everything and goes on starting whatever dies, until `quit`. */
  open(): Promise<void>;
  /** An api that serves now; null while there is none. */
  address(): { host: string; port: number } | null;
  /** A running process of the role; null while there is none. */
  pidOf(role: Role, choice: number): number | null;
  /** Kills it; that is then no crash. */
  kill(role: Role, choice: number): boolean;
  readonly databaseWires: Wires | null;
  /** Between each engine and whoever dials it: hosts, and apis. */
  readonly engineWires: Wires | null;
  /** From now on nothing is armed; what runs armed is replaced. */
  calm(): Promise<void>;
  readonly deaths: readonly Death[];
  /** Failpoints that fired, `name=action`, one entry each. */
  fired(): string[];
  starts(): number;
  /** Of each start that came to it: how long until it served. */
  readyMs(): number[];
  /** Ends servers and hosts in order; the store stays. */
  quit(): Promise<void>;
  /** When nobody else has it open. */
  openStore(): Promise<Store>;
  /** Ends what `quit` left. */
  close(): Promise<void>;
}
