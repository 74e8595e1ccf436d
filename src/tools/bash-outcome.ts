/** What a model is told about a command that ended, one way or another. */
import type { JsonObject } from '../protocol/json.ts';
import type { LimitHit } from '../sandbox/limits.ts';
import { limitWords } from './limit-words.ts';
import { failed, inDoubt, interruptedText, succeeded } from './outcome.ts';
import type { ProcessEnding } from './process-call.ts';
import { fitForModel } from './spill.ts';
import { withoutControlSequences } from './terminal-text.ts';
import type { ToolContext, ToolOutcome } from './tool.ts';

type Exited = Extract<ProcessEnding['process'], { state: 'exited' }>;

export async function bashOutcome(
  context: ToolContext,
  command: string,
  timeoutMs: number,
  ending: ProcessEnding,
): Promise<ToolOutcome> {
  const shown = await fitForModel(context, withoutControlSequences(decode(ending.output)), ending.output);
  const output = shown.text.replace(/\n+$/, '');
  const { process } = ending;
  if (process.state === 'lost') return lostOutcome(command, process.reason, output);
  if (process.state === 'running') {
    const text = paragraphs(output, interruptedText, 'Its end was not confirmed; it may still be running.');
    return inDoubt(text, { endedBy: 'terminate' });
  }
  const details: JsonObject = {
    exitCode: process.exitCode,
    signal: process.signal,
    endedBy: process.endedBy,
    durationMs: process.durationMs,
    outputBytes: ending.output.length,
    ...(ending.droppedBytes > 0 && { droppedBytes: ending.droppedBytes }),
    ...(shown.logPath !== null && { logPath: shown.logPath }),
  };
  const cwd = reportedDirectory(ending.control);
  const verdict = verdictOn(process, timeoutMs);
  const text = paragraphs(
    output,
    ...limitNotes(process, ending.droppedBytes),
    ...(verdict === null ? [] : [verdict]),
  );
  const outcome = verdict === null ? succeeded(text || '(no output)', details) : failed(text, details);
  return cwd === null ? outcome : { ...outcome, cwd };
}

/** Limits that were reached, but for those that the verdict speaks of. */
function limitNotes(process: Exited, droppedBytes: number): string[] {
  const { endedBy, limits = [] } = process;
  const isInVerdict = ({ limit }: LimitHit): boolean =>
    (endedBy === 'timeout' && limit === 'wall_time_ms') ||
    (endedBy === 'lifetime' && limit === 'lifetime_ms') ||
    (endedBy === 'memory' && limit === 'memory_bytes');
  const notes = limits.filter((hit) => !isInVerdict(hit)).map((hit) => `[${limitWords(hit)}]`);
  const isSaid = limits.some(({ limit }) => limit === 'output_bytes');
  if (droppedBytes > 0 && !isSaid) notes.push(`[${droppedBytes} more bytes of output were not kept]`);
  return notes;
}

/** Null where the command succeeded. */
function verdictOn(process: Exited, timeoutMs: number): string | null {
  const reached = (name: LimitHit['limit']) => process.limits?.find(({ limit }) => limit === name);
  if (process.endedBy === 'lifetime') {
    const hit = reached('lifetime_ms');
    return hit ? `[${limitWords(hit)}]` : '[The sandbox was ended with everything in it.]';
  }
  if (process.endedBy === 'timeout') {
    const hit = reached('wall_time_ms');
    if (hit) return `[${limitWords(hit)}]`;
    return `[The command did not end within ${timeoutMs / 1000} s and was killed with everything it had started.]`;
  }
  if (process.endedBy === 'terminate') return interruptedText;
  if (process.endedBy === 'memory') {
    const hit = reached('memory_bytes');
    const words = hit ? ` ${limitWords(hit)}` : '';
    return `[The command was killed because the sandbox ran out of memory.${words}]`;
  }
  if (process.exitCode === 0) return null;
  return process.exitCode === null
    ? `[killed by ${process.signal ?? 'a signal'}]`
    : `[exit code: ${process.exitCode}]`;
}

export function backgroundOutcome(command: string, ending: ProcessEnding): ToolOutcome {
  const { process } = ending;
  const said = withoutControlSequences(decode(ending.output)).trimEnd();
  if (process.state === 'lost') return lostOutcome(command, process.reason, said);
  const [started, pid, logPath] = /(?:^|\n)(\d+) (\/[^\n]+)$/.exec(said) ?? [];
  const hasStarted = process.state === 'exited' && process.exitCode === 0;
  if (!hasStarted || started === undefined || pid === undefined || logPath === undefined) {
    return failed(paragraphs(said, '[The command could not be started in the background.]'));
  }
  const note = said.slice(0, said.length - started.length);
  const text = `Started in the background with pid ${pid}. Its output goes to ${logPath}. Stop it with: kill ${pid}`;
  return succeeded(paragraphs(note, text), { pid: Number(pid), logPath });
}

/** L6: what is known, what is not, and what to look at; neither success nor failure is claimed. */
export function lostOutcome(command: string, reason: string, output: string): ToolOutcome {
  const shownCommand = command.length > 2_000 ? `${command.slice(0, 2_000).toWellFormed()} ...` : command;
  const text = [
    'It is not known whether this command completed. It was started, and no exit was seen: the sandbox or its host',
    `stopped while it ran (${reason}). It may have done all of its work, some of it, or nothing.`,
    'Look at what it should have changed before you decide to run it again.',
  ].join(' ');
  const seen = output === '' ? 'No output was seen.' : `Output until then:\n${output}`;
  return inDoubt(paragraphs(text, `Command:\n${shownCommand}`, seen), { reason });
}

/** Where the command's shell stood at its end. It is the command's own word, so only a plain path counts. */
function reportedDirectory(control: Uint8Array): string | null {
  const path = decode(control).replace(/\n$/, '');
  return path.startsWith('/') && path.length < 4096 && !/[\p{Cc}\ufffd]/u.test(path) ? path : null;
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function paragraphs(...parts: string[]): string {
  return parts.filter((part) => part !== '').join('\n\n');
}
