/**
 * The tool port: what an agent can do, one file per tool.
 *
 * Contract
 * - `run` gets input that passed `input` (zod); it returns an outcome for everything that can go wrong in the sandbox
 *   or the input, and rejects only with `HostUnreachable` (the engine then recovers) or on a bug.
 * - `run` uses `context.callId` for its one journalled effect, so that asking again is safe (L6).
 * - `recover` is asked after a takeover, with what the host's journal knows. Without it: `pure` runs again, any other
 *   tool whose call is `unknown` to the journal runs for the first time, and the rest is in doubt.
 */
import type { z } from 'zod';
import type { ContentBlock } from '../protocol/content.ts';
import type { JsonObject } from '../protocol/json.ts';
import type { CallStatus, Executor, LimitHit } from '../sandbox/executor.ts';

/**
 * What a repeated run would do (L6): `pure` changes nothing; `keyed` is done once per call id by whoever does it;
 * `probeable` can be looked up afterwards; `unsafe` can be neither.
 */
export type EffectClass = 'pure' | 'keyed' | 'probeable' | 'unsafe';

export type ToolContext = {
  session: string;
  fence: number;
  callId: string;
  /** Working directory of the thread, absolute, inside the sandbox. */
  cwd: string;
  executor: Executor;
  signal: AbortSignal;
  /** Output as it comes, for live display only. */
  onOutput?: (text: string) => void;
};

export type ToolOutcome = {
  content: ContentBlock[];
  isError: boolean;
  /** The thread's working directory from now on, where the call moved it. */
  cwd?: string;
  /** True where nobody can know whether the effect happened (L6). */
  inDoubt?: boolean;
  /** What ran into a limit of the sandbox meanwhile. */
  limits?: LimitHit[];
  /** Facts for people and machines, not for the model: exit code, duration, changed files, … */
  details?: JsonObject;
};

export interface Tool<Input = unknown> {
  readonly name: string;
  readonly description: string;
  readonly input: z.ZodType<Input>;
  readonly effect: EffectClass;
  run(input: Input, context: ToolContext): Promise<ToolOutcome>;
  recover?(input: Input, context: ToolContext, status: CallStatus): Promise<ToolOutcome>;
}
