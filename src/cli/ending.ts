/**
 * How a command ends: its exit code, and the one exception of the command line.
 *
 * `Refused` is an expected ending (bad option, no server, an API error, no repository) on its way up to `main.ts`,
 * which prints its two lines and exits. Anything else that is thrown is a bug and is reported as one.
 */
export const exitCodes = {
  done: 0,
  /** Refused, failed, or the agent could not finish. */
  error: 1,
  /** The command was typed wrongly. */
  usage: 2,
  /** The session waits for somebody: a confirmation, or a custom tool's result. */
  needsAction: 3,
  /** `up`: another server has this data directory. */
  alreadyRunning: 4,
  /** Left or interrupted with Ctrl-C. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export class Refused extends Error {
  override name = 'Refused';
  /** What to do about it. */
  readonly hint: string | null;
  readonly exitCode: ExitCode;

  constructor(message: string, options: { hint?: string; exitCode?: ExitCode } = {}) {
    super(message);
    this.hint = options.hint ?? null;
    this.exitCode = options.exitCode ?? exitCodes.error;
  }
}
