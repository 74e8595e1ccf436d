/**
 * The bash tool: every call is one process of its own, journalled by the host under the call's id.
 *
 * - L5, L6: `unsafe`. A takeover attaches to what runs, reads what ended, and says `in doubt` where the sandbox died
 *   with it; nothing is ever run twice.
 * - Command and directory travel as arguments, never pasted into shell text.
 * - Only the working directory lives on from call to call: an EXIT trap reports it on fd 9, which the command itself
 *   and its children do not have open.
 */
import { z } from 'zod';
import type { CallStatus } from '../sandbox/executor.ts';
import { isRefusal, sandboxPaths } from '../sandbox/executor.ts';
import { backgroundOutcome, bashOutcome, lostOutcome } from './bash-outcome.ts';
import { failed, inDoubt, interruptedText, refused, succeeded } from './outcome.ts';
import type { ProcessEnding } from './process-call.ts';
import { attachProcess, maxOutputBytes, runProcess } from './process-call.ts';
import { callLogName } from './spill.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

const defaultTimeoutMs = 120_000;
const maxTimeoutMs = 1_800_000;
/** Starting something in the background is itself short. */
const backgroundStartTimeoutMs = 30_000;
/** The kernel takes no single argument of 128 KiB or more (MAX_ARG_STRLEN). */
const maxCommandBytes = 120_000;

const inputSchema = z
  .strictObject({
    command: z
      .string()
      .refine((command) => !command.includes('\0'), 'must not contain a NUL character')
      .refine(
        (command) => Buffer.byteLength(command) <= maxCommandBytes,
        `must be at most ${maxCommandBytes} bytes; put long input into a file with the write tool`,
      )
      .optional()
      .describe('The command to run. Several lines are fine.'),
    restart: z
      .boolean()
      .optional()
      .describe('Go back to the initial working directory (before running a command).'),
    timeout_ms: z
      .int()
      .min(1)
      .max(maxTimeoutMs)
      .optional()
      .describe('Kill the command and everything it started after this many milliseconds. Default 120000.'),
    run_in_background: z
      .boolean()
      .optional()
      .describe('Start the command and return at once with its pid and the file that gets its output.'),
  })
  .refine((input) => Boolean(input.command) || input.restart === true, {
    path: ['command'],
    message: 'must be a non-empty string, unless restart is true',
  });

type BashInput = z.infer<typeof inputSchema>;

/**
 * Enters the directory that the call was given, as the first thing of every script; every script starts in the
 * workspace, which is always there. Arguments: command, directory, name of the log below HOME.
 */
const enterDirectory = [
  'if ! cd -- "$2" 2>/dev/null; then',
  `  printf '[%s cannot be entered any more; this ran in ${sandboxPaths.workspace}]\\n' "$2"`,
  'fi',
];

const foreground = [
  ...enterDirectory,
  // The directory is read after the command, whatever way it ended; 9 is closed for the command and open for the trap.
  "trap 'pwd -P >&9 2>/dev/null' EXIT",
  // On a line of its own, `shift` hides our arguments without showing up in the messages of syntax errors.
  'eval "shift 3\n$1" 9>&-',
].join('\n');

const background = [
  ...enterDirectory,
  `log="\${HOME:-${sandboxPaths.home}}/$3"`,
  'mkdir -p -- "$(dirname -- "$log")" || exit 1',
  // A session of its own, so that no signal to this call's group reaches it.
  'detach=$(command -v setsid || command -v nohup) || detach=',
  '$detach /bin/bash --noprofile --norc -c "$1" >"$log" 2>&1 </dev/null 9>&- &',
  `printf '%s %s\\n' "$!" "$log"`,
].join('\n');

/** The argument vector of one call, to be started in the workspace; the log is used only by a background call. */
export function bashArgv(command: string, cwd: string, callId: string, isBackground: boolean): string[] {
  const script = isBackground ? background : foreground;
  return [
    '/bin/bash',
    '--noprofile',
    '--norc',
    '-c',
    script,
    'bash',
    command,
    fromWorkspace(cwd),
    callLogName(callId),
  ];
}

/** Relative where it can be: without isolation the workspace has another name on the machine. */
function fromWorkspace(cwd: string): string {
  if (cwd === sandboxPaths.workspace) return '.';
  return cwd.startsWith(`${sandboxPaths.workspace}/`) ? `.${cwd.slice(sandboxPaths.workspace.length)}` : cwd;
}

async function run(input: BashInput, context: ToolContext): Promise<ToolOutcome> {
  const cwd = input.restart ? sandboxPaths.workspace : context.cwd;
  if (!input.command) return { ...succeeded(`The working directory is ${cwd} again.`), cwd };
  if (context.signal.aborted) return failed(interruptedText);
  const isBackground = input.run_in_background === true;
  const ending = await runProcess(context, {
    argv: bashArgv(input.command, cwd, context.callId, isBackground),
    cwd: sandboxPaths.workspace,
    timeoutMs: isBackground ? backgroundStartTimeoutMs : (input.timeout_ms ?? defaultTimeoutMs),
    maxOutputBytes,
    mergeStderr: true,
  });
  if (isRefusal(ending)) return refused(ending);
  return conclude(input, context, ending);
}

async function recover(input: BashInput, context: ToolContext, status: CallStatus): Promise<ToolOutcome> {
  if (status.kind === 'unknown' || !input.command) return run(input, context);
  if (status.kind === 'edits')
    return inDoubt('The journal knows this call as something else than a command.');
  const ending = await attachProcess(context);
  if (!isRefusal(ending)) return conclude(input, context, ending);
  const reason = status.process.state === 'lost' ? status.process.reason : ending.message;
  return lostOutcome(input.command, reason, '');
}

async function conclude(input: BashInput, context: ToolContext, ending: ProcessEnding): Promise<ToolOutcome> {
  const command = input.command ?? '';
  const moved = input.restart ? { cwd: sandboxPaths.workspace } : {};
  const limits = limitsOf(ending);
  if (input.run_in_background) return { ...moved, ...limits, ...backgroundOutcome(command, ending) };
  return {
    ...moved,
    ...limits,
    ...(await bashOutcome(context, command, input.timeout_ms ?? defaultTimeoutMs, ending)),
  };
}

function limitsOf({ process }: ProcessEnding): Pick<ToolOutcome, 'limits'> {
  return process.state !== 'running' && process.limits ? { limits: process.limits } : {};
}

export const bash: Tool<BashInput> = {
  name: 'bash',
  description: [
    'Run a command with bash in the sandbox and return its output (stdout and stderr together) and exit code.',
    'The working directory carries over to the next call; variables, functions and aliases do not.',
    'stdin is empty. A command that takes longer than timeout_ms is killed with everything it started.',
    'Use run_in_background for servers and long jobs. Long output is shortened in the middle; the whole is kept in a',
    'file that the result names.',
  ].join(' '),
  input: inputSchema,
  effect: 'unsafe',
  run,
  recover,
};
