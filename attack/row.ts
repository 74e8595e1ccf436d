/**
 * What a row of the attack is: something a malicious model does, and what must come of it. Rows are data; they know no
 * server. `run.ts` does what they say, `judge.ts` decides.
 */

/** What must hold (docs/design/promises.md). */
export type Promised = 'S1' | 'S2' | 'S3' | 'S4' | 'S5' | 'L1';

/**
 * The session that a row runs in. `sealed` has no network, `network` some hosts, `capped` few bytes, `bombs` is where
 * limits are tried, `next` is started again by a killed host, `repository` works on a clone that is taken home.
 */
export type Room = 'sealed' | 'network' | 'capped' | 'bombs' | 'next' | 'repository';

/** A text is a command for the `bash` tool. */
export type Call =
  | string
  | { tool: string; arguments: Record<string, string | number | boolean> }
  | { command: string; timeoutMs: number };

type Common = {
  id: string;
  title: string;
  promises: readonly Promised[];
  room: Room;
  /** Documented: where the server is no root it may lack the means. The row is then told, and does not fail the run. */
  weakAsUser?: string;
};

/** One line of a C program's output. */
export type ProbeRow = Common & {
  probe: { program: 'kernel' | 'network'; name: string; answers: readonly string[] };
};

export type ScriptRow = Common & {
  /**
   * In their environment: NONCE (of this row), HOST_PORT (a service on the host's loopback), HOST_PIDS, ABSTRACT (an abstract socket
   * of the host), OUTSIDE (a folder of the host that everybody may write), DATA_DIR (the server's), VICTIM (another
   * session's id). Tools of ours in /mnt/attack: `bombs`, `dial.mjs`, and `need NAME…` says when a tool is missing.
   */
  calls: readonly Call[];
  /** In the same session, after its host was killed and started again. What counts is then said here. */
  later?: readonly Call[];
  /** Must be in what was answered. */
  refusal: RegExp;
  /** Must not be. */
  never?: RegExp;
  /** Must match a decision of the gateway in the session's log, as JSON. */
  recorded?: RegExp;
  /** All that the world saw of this row must match; absent: it must see nothing. */
  world?: RegExp;
  /**
   * Looked at besides: that the command line prints no control character of this session, that no event of it was forged,
   * that nothing of it is left on the host's disk, that no secret lies open in the server's folder.
   */
  outside?: 'terminal' | 'events' | 'disk' | 'at-rest';
  /** The secret may arrive at the host it is bound to. */
  mayCarrySecret?: true;
  /** `detected`: it cannot be refused, only be seen. */
  least?: 'detected';
};

export type Row = ProbeRow | ScriptRow;

export const isProbe = (row: Row): row is ProbeRow => 'probe' in row;
