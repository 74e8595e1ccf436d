/**
 * The processes under attack, whatever they are: what a run needs to know of them. `up` is one server with its host
 * (up-topology.ts); a fleet on one Postgres is another.
 */
export type Role = 'server' | 'host';

export type Death = {
  role: Role;
  /** Wall clock and monotonic. */
  atMs: number;
  monotonicMs: number;
  /** `kill` and `failpoint:<name>` are ours; anything else nobody wanted. */
  cause: string;
};

export interface Topology {
  /** Starts everything and goes on starting whatever dies, until `close`. */
  open(): Promise<void>;
  /** Where clients reach an api now; null while there is none. */
  address(): { host: string; port: number } | null;
  /** A running process of the role, by the run's choice among several; null while there is none. */
  pidOf(role: Role, choice: number): number | null;
  /** Kills it; that is then no crash. */
  kill(role: Role, choice: number): boolean;
  /** From now on nothing is armed; what runs armed is replaced. */
  calm(): Promise<void>;
  deaths: readonly Death[];
  /** Failpoints that fired and did not kill: name and action, one entry each. */
  fired(): string[];
  starts: number;
  /** Ends all of it in order. The data stays. */
  close(): Promise<void>;
}
