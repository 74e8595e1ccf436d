/**
 * The grep tool: lines by regular expression, searched by ripgrep (or grep) inside the sandbox.
 *
 * - No shell: the pattern is one argument after `--`. No regular expression of a model is ever evaluated on this side.
 * - `pure`: after a takeover it runs again; where the journal says that the first run was lost, under a new call id.
 */
import { posix } from 'node:path';
import { z } from 'zod';
import type { Refusal } from '../sandbox/executor.ts';
import { isRefusal, sandboxPaths } from '../sandbox/executor.ts';
import { failed, interruptedText, refused, succeeded } from './outcome.ts';
import { pathInput, resolvePath } from './path.ts';
import type { ProcessEnding } from './process-call.ts';
import { runProcess } from './process-call.ts';
import { withoutControlSequences } from './terminal-text.ts';
import type { Tool, ToolContext, ToolOutcome } from './tool.ts';

const maxShownBytes = 100 * 1024;
const maxLineChars = 2_000;
const timeoutMs = 60_000;
/** Read ahead of what is shown, since long lines are cut. */
const enoughBytes = 1024 * 1024;
const maxRuns = 3;

const inputSchema = z.strictObject({
  pattern: z
    .string()
    .min(1)
    .max(10_000)
    .refine((pattern) => !pattern.includes('\0'), 'must not contain a NUL character')
    .describe(
      'A regular expression (ripgrep syntax where ripgrep is installed, else POSIX extended), matched per line.',
    ),
  path: pathInput('The file or directory to search; without it the working directory.').optional(),
});

type GrepInput = z.infer<typeof inputSchema>;

const ripgrepPlaces = [`${sandboxPaths.ownTools}/rg`, '/usr/bin/rg', '/usr/local/bin/rg'];

/** `hidden` files count, as they do for grep; what .gitignore names does not where ripgrep searches. */
const ripgrepArguments = [
  '--no-config',
  '--line-number',
  '--no-heading',
  '--with-filename',
  '--color=never',
  '--hidden',
  '--glob=!.git',
  '--glob=!node_modules',
  '--sort=path',
];
const grepArguments = ['-rnIHE', '--color=never', '--exclude-dir=.git', '--exclude-dir=node_modules'];

async function argvFor(context: ToolContext, pattern: string, path: string): Promise<string[]> {
  const { session, fence, executor } = context;
  const stats = await Promise.all(
    ripgrepPlaces.map((place) => executor.stat({ session, fence, path: place })),
  );
  const ripgrep = ripgrepPlaces.find((_, index) => !isRefusal(stats[index] ?? { refused: 'not_found' }));
  const command = ripgrep === undefined ? ['grep', ...grepArguments] : [ripgrep, ...ripgrepArguments];
  return [...command, '--', pattern, path];
}

async function run(input: GrepInput, context: ToolContext): Promise<ToolOutcome> {
  if (context.signal.aborted) return failed(interruptedText);
  const { path = '.' } = input;
  const argv = await argvFor(context, input.pattern, fromDirectory(context.cwd, path));
  const ending = await search(context, argv);
  if (isRefusal(ending)) return refused(ending, path);
  return conclude(ending);
}

/** As short as it can be said from the directory of the search; never like an option. */
function fromDirectory(cwd: string, path: string): string {
  const absolute = resolvePath(cwd, path);
  const relative = posix.relative(cwd, absolute);
  if (relative === '') return '.';
  return relative.startsWith('..') ? absolute : `./${relative}`;
}

async function search(context: ToolContext, argv: string[]): Promise<ProcessEnding | Refusal> {
  for (let run = 1; ; run++) {
    const callId = run === 1 ? context.callId : `${context.callId}.${run}`;
    const ending = await runProcess(context, {
      callId,
      argv,
      cwd: context.cwd,
      timeoutMs,
      maxOutputBytes: 2 * enoughBytes,
      enoughBytes,
      mergeStderr: false,
    });
    // The journal remembers a search that died with its host, or one that was begun with the other program.
    const isStale = isRefusal(ending) ? ending.refused === 'call_mismatch' : ending.process.state === 'lost';
    if (!isStale || run === maxRuns) return ending;
  }
}

function conclude(ending: ProcessEnding): ToolOutcome {
  const { process } = ending;
  if (process.state === 'lost') return failed(`The search was cut off: ${process.reason}`);
  const wasStopped = process.state === 'running' || process.endedBy === 'terminate';
  if (wasStopped && ending.killedFor === 'interrupt') return failed(interruptedText);
  const exitCode = process.state === 'exited' ? process.exitCode : null;
  const details = { exitCode, durationMs: process.state === 'exited' ? process.durationMs : null };
  const { text, isCut } = matchesFor(ending.output);
  if (process.state === 'exited' && process.endedBy === 'timeout') {
    const note = `[the search did not end within ${timeoutMs / 1000} s; search a smaller directory]`;
    return failed(text === '' ? note : `${text}\n${note}`, details);
  }
  const notes: string[] = [];
  if (isCut || wasStopped || ending.droppedBytes > 0) {
    notes.push('[there are more matches; search a smaller directory or for a narrower pattern]');
  }
  if (!wasStopped && exitCode !== 0 && exitCode !== 1) {
    const complaint = withoutControlSequences(decode(ending.stderr))
      .trim()
      .slice(0, maxLineChars)
      .toWellFormed();
    if (text === '') return failed(`The search failed. ${complaint || `Exit code ${exitCode}.`}`, details);
    // Some files could not be read; what was found in the others still counts.
    notes.push(`[incomplete: ${complaint}]`);
  }
  return succeeded([text || 'no matches', ...notes].join('\n'), details);
}

/** Whole lines up to the limit, long ones cut. */
function matchesFor(output: Uint8Array): { text: string; isCut: boolean } {
  const lines = withoutControlSequences(decode(output)).split('\n');
  const shown: string[] = [];
  let bytes = 0;
  for (const line of lines) {
    const short =
      line.length > maxLineChars ? `${line.slice(0, maxLineChars).toWellFormed()}... [line cut]` : line;
    bytes += Buffer.byteLength(short) + 1;
    if (bytes > maxShownBytes) return { text: shown.join('\n'), isCut: true };
    shown.push(short);
  }
  return { text: shown.join('\n').replace(/\n+$/, ''), isCut: false };
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

export const grep: Tool<GrepInput> = {
  name: 'grep',
  description: [
    'Search file contents by regular expression. Returns path:line:text (paths relative to the working directory), up to 100 KiB.',
    'Binary files, .git and node_modules are skipped.',
  ].join(' '),
  input: inputSchema,
  effect: 'pure',
  run,
};
